"""Code with a pitfall, by rule, and code beside it that is right: how researchers write it, in many styles."""

FOUND = {
    "dominant_layer": [
        """
        def network_angle(net):
            by_layer = net.feedback_alignment()
            return np.mean(list(by_layer.values()))
        """,
        "cosines = layer_cosine_dict(model)\nmean = statistics.fmean(cosines.values())",
        "alignment = {}\nmean = sum(v for v in alignment.values()) / max(len(alignment), 1)",
        "gammas = {}\nlog(float(sum(gammas.values())) / len(gammas))",
        "alignments = measure(net)\nmean = jnp.mean(jnp.array(list(alignments.values())))",
        "m = np.mean([cosine(p.grad, g) for p, g in zip(model.parameters(), local)])",
        "m = torch.stack([F.cosine_similarity(a, b, dim=0, eps=0) for a, b in zip(net.weights, net.feedbacks)]).mean()",
        """
        sims = []
        for name, p in model.named_parameters():
            sims.append(cosine(p.grad, local[name]))
        result = torch.tensor(sims).mean()
        """,
        """
        def mean_angle(self):
            total = 0
            for layer in self.layers:
                total = total + cosine(layer.weight, layer.feedback.t())
            return total / len(self.layers)
        """,
        """
        acc = 0.0
        for i, (w, b) in enumerate(zip(self.weights, self.feedbacks)):
            acc += float(w @ b / (w.norm() * b.norm()))
        acc /= i + 1
        """,
        """
        mean = 0.0
        for n, p in enumerate(model.parameters(), 1):
            cos = cosine(p.grad, local[n])
            mean += (cos - mean) / n
        """,
        """
        def report(model, local):
            s, k = 0.0, 0
            for block in model.blocks:
                alignment = angle_of(block, local)
                s += alignment
                k += 1
            print(s / max(k, 1))
        """,
        """
        def report(model):
            out = {"sum": 0.0}
            total = 0.0
            for l in range(depth):
                total += cos_sim(model.W[l], model.B[l])
            return {"mean_cos": total / depth}
        """,
    ],
    "cosine_eps": [
        """
        def cs(u, v):
            return torch.cosine_similarity(u, v, dim=0)
        def log(model, fa_grad):
            writer(cs(fa_grad, model.weight.grad.flatten()))
        """,
        """
        class Meter:
            @staticmethod
            def similarity(x, y):
                return F.cosine_similarity(x, y, dim=-1)
            def update(self, p, local_gradient):
                self.value = self.similarity(x=local_gradient, y=p)
        """,
        """
        cos = lambda a, b: F.cosine_similarity(a, b, dim=0)
        values = [cos(p.grad.flatten(), d) for p, d in pairs]
        """,
        """
        def compare(xs, ys):
            return [F.cosine_similarity(x, y, dim=0) for x, y in zip(xs, ys)]
        compare(bp_grads, dfa_grads)
        """,
        """
        def inner(a, b):
            return F.cosine_similarity(a, b, dim=0)
        def outer(u, v):
            return inner(u.flatten(), v.flatten())
        outer(net.fc.weight.grad, update)
        """,
        "def f(grad_a, grad_b):\n    return np.dot(grad_a, grad_b) / (np.linalg.norm(grad_a) * np.linalg.norm(grad_b) + 1e-8)",
        "c = jnp.vdot(g_fa, g_bp) / (jnp.linalg.norm(g_fa) * jnp.linalg.norm(g_bp) + 1e-12)",
        "c = torch.sum(credit * grad) / torch.clamp(credit.norm() * grad.norm(), min=1e-8)",
        "c = (grad @ d) / max(grad.norm() * d.norm(), 1e-12)",
        "na, nb = grad.norm(), d.norm()\nc = grad.dot(d) / (na * nb + EPS)",
        "c = torch.dot(grad, d) / (grad.norm() + 1e-8) / (d.norm() + 1e-8)",
        "c = tf.reduce_sum(grad * d) / (tf.norm(grad) * tf.norm(d) + 1e-10)",
        "c = sum(x * y for x, y in zip(grad, d)) / (math.sqrt(sum(x * x for x in grad) * sum(y * y for y in d)) + 1e-9)",
        """
        u = grad / (grad.norm() + 1e-8)
        v = d / (d.norm() + 1e-8)
        c = (u * v).sum()
        """,
        """
        def cosine(a, b, eps=1e-8):
            return (a * b).sum() / (a.norm() * b.norm() + eps)
        cosine(p.grad, feedback_update)
        """,
        "num = (g_local * g_true).sum()\nden = np.sqrt((g_local**2).sum()) * np.sqrt((g_true**2).sum()) + 1e-12\nc = num / den",
    ],
    "population_std": [
        "values = [r['gap'] for r in seed_results]\nnp.std(values)",
        "spread = np.std([train(s) for s in range(n_seeds)])",
        "gaps = []\nfor seed in SEEDS:\n    gaps.append(train(seed))\nprint(np.std(gaps))",
        "out = np.zeros(5)\nfor i, trial in enumerate(trials):\n    out[i] = trial.gap\nprint(np.std(out))",
        "xs = np.array([r['gap'] for r in runs])\nxs.std(axis=0)",
        "table = {k: float(np.std([r[k] for r in per_seed])) for k in keys}",
        "np.sqrt(np.var([r.gap for r in replicates]))",
        "statistics.pstdev(report['gap'] for report in seed_reports)",
        "jnp.std(jnp.stack([r['gap'] for r in runs]), axis=0)",
        "tf.math.reduce_std([r['gap'] for r in seed_runs])",
        "var = sum((v - m) ** 2 for v in test_accs) / len(test_accs)",
        "def sem(x):\n    return np.std(x) / np.sqrt(len(x))",
        "def ci(x):\n    return 1.96 * np.std(x, axis=0) / math.sqrt(x.shape[0])",
        "def ci(x, n):\n    mean, std = np.mean(x), np.std(x)\n    return mean, 1.96 * std / n**0.5",
        "def sem(x):\n    return math.sqrt(statistics.pvariance(x) / len(x))",
        "def sem(x):\n    return statistics.pstdev(x) / max(len(x), 1) ** 0.5",
        "def sem(x):\n    return torch.std(x, unbiased=False) / math.sqrt(x.numel())",
        "def sem(x):\n    a = np.asarray(x)\n    return float(a.std()) / np.sqrt(a.size)",
        "def sem(x):\n    return jnp.std(x) / jnp.sqrt(len(x))",
    ],
    "not_frozen": [
        "class N(nn.Module):\n    def __init__(self):\n        self.body = nn.Sequential(nn.Linear(3, 4))\n        self.body[0].requires_grad = False",
        "model.encoder.requires_grad = False",
        "net = Net()\nnet.requires_grad = False",
        "for child in net.children():\n    child.requires_grad = False",
        "for name, m in model.named_modules():\n    if 'conv' in name:\n        m.requires_grad = False",
        "for layer in [self.conv1, self.conv2]:\n    layer.requires_grad = False",
        "from torchvision import models\nbase = models.resnet18()\nbase.fc.requires_grad = True\nbase.requires_grad = False",
        "feedback = nn.Linear(10, 5, bias=False)\nfeedback.requires_grad = False",
        "class Mine(nn.Module): pass\nthing = Mine().to(device)\nthing.requires_grad = False",
        "def freeze(part: nn.Module):\n    part.requires_grad = False",
        "setattr(model.backbone, 'requires_grad', False)",
        "for i in range(3):\n    model.layers[i].requires_grad = False",
        "emb = torch.nn.Embedding(3, 4)\nhead = nn.Linear(3, 4)\nemb.requires_grad = head.requires_grad = False",
    ],
    "eval_stays": [
        """
        net.train()
        for epoch in range(10):
            for x, y in loader:
                loss_of(net(x), y).backward()
                opt.step()
            if epoch % 2 == 0:
                net.eval()
                print(accuracy(net, test))
        """,
        """
        def evaluate(model, loader):
            model.eval()
            with torch.no_grad():
                return sum((model(x).argmax(1) == y).sum() for x, y in loader)
        def main():
            for epoch in range(3):
                for x, y in train_loader:
                    loss_of(model(x), y).backward()
                evaluate(model, test_loader)
        """,
        """
        class Trainer:
            def fit(self):
                for _ in range(self.epochs):
                    self.one_epoch()
                    self.check()
            def one_epoch(self):
                for x, y in self.data:
                    self.optimizer.zero_grad()
                    self.loss(self.model(x), y).backward()
                    self.optimizer.step()
            def check(self):
                self.model.eval()
        """,
        """
        while step < steps:
            x, y = next(batches)
            loss_of(model(x), y).backward()
            step += 1
            if step % 100 == 0:
                model.train(False)
                test(model)
        """,
        """
        for epoch in range(3):
            model.train()
            for i, (x, y) in enumerate(loader):
                loss_of(model(x), y).backward()
                if i % 50 == 0:
                    model.eval()
                    print(test(model))
        """,
        """
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for epoch in range(3):
            net.eval()
            acc = sum((net(x).argmax(1) == y).float().mean() for x, y in test)
            for x, y in loader:
                loss_of(net(x), y).backward()
                optimizer.step()
        """,
        """
        def fit(model, teacher):
            teacher.eval()
            for epoch in range(3):
                step_of(model).backward()
                model.eval()
        """,
        """
        for epoch in range(3):
            for x, y in loader:
                loss = loss_of(dfa_net(x), y)
                loss.backward()
            with torch.no_grad():
                dfa_net.eval()
                history.append(accuracy_of(dfa_net))
        """,
    ],
    "best_on_test": [
        "best = 0\nfor epoch in range(9):\n    acc = evaluate(model, test_loader)\n    best = max(best, acc)\nprint(best)",
        "best = 1.0\nfor epoch in range(9):\n    test_err = error(model)\n    if test_err < best:\n        best = test_err",
        "def run(test_accs):\n    return {'accuracy': max(test_accs)}",
        "best_epoch = int(np.argmax(history['test_acc']))",
        "best_acc = max(h['test_accuracy'] for h in history)",
        "result = min(log['test_error'])",
        "print(f'best {np.max(test_accuracy):.3f}')",
        "def final(accs_test):\n    return np.asarray(accs_test).max()",
        """
        class Trainer:
            def after_epoch(self):
                _, acc = self.run(self.testloader)
                if acc >= self.best_acc:
                    self.best_acc = acc
                    torch.save(self.net, 'best.pt')
        """,
        """
        def test(epoch):
            global best_acc
            correct = total = 0
            for x, y in testloader:
                correct += (net(x).argmax(1) == y).sum().item()
                total += len(y)
            acc = 100.0 * correct / total
            if acc > best_acc:
                best_acc = acc
        """,
        """
        summary = {'acc': 0.0}
        for epoch in range(9):
            test_metrics = measure(model)
            if test_metrics['acc'] > summary['acc']:
                summary['acc'] = test_metrics['acc']
        """,
        """
        best_val = best_test = 0.0
        for epoch in range(9):
            val_acc, test_acc = score(val_set), score(test_set)
            best_val = max(best_val, val_acc)
            best_test = max(best_test, test_acc)
        """,
        """
        for epoch in range(9):
            top1 = validate(test_loader, model)
            is_best = top1 > best_top1
            best_top1 = max(top1, best_top1)
        """,
    ],
    "cut_to_fit": [
        "def angle(W, B):\n    w, b = W.ravel(), B.ravel()\n    n = min(w.size, b.size)\n    return np.dot(w[:n], b[:n]) / (np.linalg.norm(w[:n]) * np.linalg.norm(b[:n]))",
        "def f(a, b):\n    m = min(a.numel(), b.numel())\n    a, b = a.flatten()[:m], b.flatten()[:m]\n    return cosine(a, b)",
        "c = F.cosine_similarity(w.view(-1)[: b.numel()], b.view(-1), dim=0, eps=0)",
        "c = cos_sim(w[: min(len(w), len(b))], b[: min(len(w), len(b))])",
        """
        def fit(u, v):
            k = min(u.shape[0], v.shape[0])
            return u[:k], v[:k]
        def alignment(u, v):
            u, v = fit(u, v)
            return cosine(u, v)
        """,
        "def f(W, B):\n    r, c = min(W.shape[0], B.shape[0]), min(W.shape[1], B.shape[1])\n    return cosine(W[:r, :c].flatten(), B[:r, :c].flatten())",
        "n = int(min([len(w), len(b)]))\nangle = weight_angle(w[:n], b[:n])",
        "la, lb = a.numel(), b.numel()\nn = la if la < lb else lb\nc = F.cosine_similarity(a[:n], b[:n], dim=0, eps=0)",
        "n = min(v.size for v in (w, b))\nc = jnp.vdot(w[:n], b[:n]) / (jnp.linalg.norm(w[:n]) * jnp.linalg.norm(b[:n]))",
        "n = min(len(w), len(b))\nc = cosine(w.narrow(0, 0, n), b.narrow(0, 0, n))",
        "parts = {'w': w.flatten(), 'b': b.flatten()}\nn = min(len(parts['w']), len(parts['b']))\nc = cosine(parts['w'][:n], parts['b'][:n])",
    ],
    "hidden_feedback": [
        "h.register_hook(lambda g: g_fixed @ B)",
        "h.register_hook(lambda grad: torch.matmul(error, self.B1))",
        """
        def forward(self, x):
            h = self.fc1(x)
            h.register_hook(lambda _: self.error.mm(self.feedback))
            return self.fc2(h)
        """,
        """
        def replace(grad):
            e = output - target
            return (e @ B_l).view_as(grad)
        hidden.register_hook(replace)
        """,
        """
        class Net(nn.Module):
            def _swap(self, grad):
                return F.linear(self.delta, self.fb)
            def forward(self, x):
                x.register_hook(self._swap)
                return x
        """,
        """
        def make(B):
            def hook(grad):
                return grad @ B
            return hook
        out.register_hook(make(B1))
        """,
        "h.register_hook(functools.partial(dfa_hook, matrix))\ndef dfa_hook(matrix, grad):\n    return torch.einsum('bc,cd->bd', signal, matrix)",
        "def hook(g):\n    g.copy_(err @ fb_weights)\nh.register_hook(hook)",
        "h.register_hook(lambda g, B=B: g.mm(B))",
        "@h.register_hook\ndef _(grad):\n    return error @ random_matrix",
        "h.register_hook(lambda g: self.feedback_signal)",
    ],
}

MISSED = {
    "dominant_layer": [
        "cosines = {}\nmean = statistics.fmean(cosines_by_seed.values())",
        "mean = np.mean([cosine(a, g) for seed in seeds for a, g in pairs[seed]])",
        "total = 0.0\nfor x, y in loader:\n    total += cosine(credit(x), gradient(x))\nmean = total / len(loader)",
        "loss = 0.0\nfor s, t in zip(student.layers, teacher.layers):\n    loss += 1 - F.cosine_similarity(s, t).mean()\nloss = loss / 4",
        "total = 0.0\nfor p in model.parameters():\n    total += p.grad.norm()\nmean = total / n",
        "total = 0.0\nfor layer in layers:\n    total += cosine(layer.w, layer.b)\nreturned = total",
        "times = {}\nmean = sum(times.values()) / len(times)",
        "per_layer = {n: cosine(p.grad, local[n]) for n, p in model.named_parameters()}",
        "mean = np.mean([np.cos(t) for t in phases])",
    ],
    "cosine_eps": [
        "def cs(a, b):\n    return F.cosine_similarity(a, b, dim=0)\ncs(image_features, text_features)",
        "def cs(a, b):\n    return F.cosine_similarity(a, b, dim=0, eps=0)\ncs(p.grad, d)",
        "c = (grad * d).sum() / (grad.norm() * d.norm())",
        "c = (emb @ key) / (emb.norm() * key.norm() + 1e-8)",
        "def cosine(grad, d, eps=0):\n    return grad @ d / (grad.norm() * d.norm() + eps)",
        "def cosine(grad, d, eps=1e-30):\n    return grad @ d / (grad.norm() * d.norm() + eps)",
        "scaled = grad / (grad.norm() + 1e-8)",
        "ratio = grad.norm() / (weight.norm() + 1e-8)",
        "step = (m_hat * grad).sum() / (v.sqrt() + 1e-8)",
    ],
    "population_std": [
        "fits = [ind.accuracy for ind in population]\nreturn_std = np.std(fits)",
        "def log(generation):\n    accs = np.array([g.acc for g in generation])\n    return accs.mean(), accs.std()",
        "jnp.std(metrics['test_acc_outer'])",
        "np.std([accuracy(model, task) for task in tasks])",
        "np.std(history['test_loss'])",
        "accs = []\nfor task in benchmark.tasks:\n    accs.append(accuracy(task))\nnp.std(accs)",
        "np.std(per_class_accuracy)",
        "jnp.std(aux['val_error_per_task'])",
        "np.std([agent.final_score for agent in swarm])",
        "def sem(x):\n    return np.std(x, ddof=1) / np.sqrt(len(x))",
        "def sem(x):\n    return statistics.stdev(x) / len(x) ** 0.5",
        "def sem(x):\n    return torch.std(x) / math.sqrt(len(x))",
        "def sem(x):\n    return np.std(x) / np.sqrt(len(x) - 1)",
        "w = np.random.randn(n, m) * np.std(w0) / np.sqrt(n)",
        "bound = np.std(w) / np.sqrt(fan_in)",
        "def z(x):\n    return (x - np.mean(x)) / np.std(x)",
        "for seed in seeds:\n    noise = np.std(draw(seed))",
    ],
    "not_frozen": [
        "for param in model.parameters():\n    param.requires_grad = False",
        "for name, p in net.named_parameters():\n    p.requires_grad = name.startswith('fc')",
        "model.fc.weight.requires_grad = False",
        "model.encoder.requires_grad_(False)",
        "for layer in net.layers:\n    for p in layer.parameters():\n        p.requires_grad = False",
        "self.B = nn.Parameter(torch.randn(3, 4))\nself.B.requires_grad = False",
        "x = torch.randn(3)\nx.requires_grad = True",
        "self.requires_grad = requires_grad",
        "conv = torch.randn(3, 3)\nconv.requires_grad = True",
        "def f(layer: torch.Tensor):\n    layer.requires_grad = True",
        "W = nn.Linear(3, 4).weight\nW.requires_grad = False",
        "if model.fc.requires_grad: pass",
    ],
    "eval_stays": [
        """
        for epoch in range(3):
            model.train()
            for x, y in loader:
                loss_of(model(x), y).backward()
            model.eval()
        """,
        """
        def evaluate(model):
            model.eval()
            return accuracy(model)
        def train_epoch(model):
            model.train()
            for x, y in loader:
                loss_of(model(x), y).backward()
        for epoch in range(3):
            train_epoch(model)
            evaluate(model)
        """,
        """
        for epoch in range(3):
            loss_of(model(x), y).backward()
            was = model.training
            model.eval()
            print(accuracy(model))
            model.train(was)
        """,
        "for epoch in range(3):\n    loss_of(model(x)).backward()\nmodel.eval()\nprint(accuracy(model))",
        "for x in loader:\n    teacher.eval()\n    loss_of(model(x), teacher(x)).backward()",
        "opt = SGD(student.parameters())\nfor x in loader:\n    guide.eval()\n    loss_of(student(x), guide(x)).backward()",
        "for path in paths:\n    model = load(path)\n    model.eval()\n    print(accuracy(model))",
        "for epoch in range(3):\n    loss_of(model(x)).backward()\n    if done(epoch):\n        model.eval()\n        break",
        "for m in net.modules():\n    m.eval()\nfor x in loader:\n    loss_of(net(x)).backward()",
        "for x in loader:\n    loss_of(net(x)).backward()\n    print(loss.eval(session=s), frame.eval('a + b'))",
        """
        for epoch in range(epochs):
            loss_of(model(x)).backward()
            if epoch == epochs - 1:
                model.eval()
        """,
    ],
    "best_on_test": [
        """
        best_val, chosen = 0.0, None
        for epoch in range(9):
            val_acc = evaluate(model, val_loader)
            if val_acc > best_val:
                best_val, chosen = val_acc, copy(model)
        test_acc = evaluate(chosen, test_loader)
        """,
        """
        for epoch in range(9):
            val_acc, test_acc = score(val_set), score(test_set)
            if val_acc > best_val_acc:
                best_val_acc = val_acc
                best_test_acc = test_acc
        """,
        "best = max(val_accs)",
        "test_acc = test_accs[int(np.argmax(val_accs))]",
        "plt.ylim(0, max(test_accs))",
        "worst = max(test_losses)",
        "test_acc = test_accs[-1]",
        "best_loss = 9.0\nfor epoch in range(9):\n    train_loss = fit()\n    if train_loss < best_loss:\n        best_loss = train_loss",
        "for epoch in range(9):\n    test_acc = test()\n    if test_acc > 0.9:\n        break",
        "assert max(test_accs) <= 1.0",
        "acc = (test_out.argmax(1) == y_test).mean()",
        """
        best = 0
        X_train, X_test, y_train, y_test = train_test_split(X, y)
        for depth in range(9):
            acc = cross_val_score(X_train, y_train, depth)
            if acc > best:
                best = acc
        """,
        "def test_growth():\n    best = 0\n    for x in values:\n        if x > best:\n            best = x",
    ],
    "cut_to_fit": [
        "c = F.cosine_similarity(w[:100], b[:100], dim=0, eps=0)",
        "def f(a, b, k):\n    return cosine(a[:k], b[:k])",
        "n = min(len(queries), len(keys))\nc = F.cosine_similarity(queries[:n], keys[:n], dim=-1)",
        "n = min(len(wave), len(target))\nc = F.cosine_similarity(wave[:n], target[:n], dim=0, eps=0)",
        "n = min(len(a), len(b))\nfor x, y in zip(a[:n], b[:n]):\n    print(x, y)",
        "c = F.cosine_similarity(out.detach(), model.hidden[: out.shape[0], :].mm(fb))",
        "n = min(batch, len(a))\nc = cosine(a[:n], b[:n])",
        "c = cosine(w[1:], w[:-1])",
        "if len(w) != len(b):\n    raise ValueError\nc = cosine(w, b)",
    ],
    "hidden_feedback": [
        "h.register_hook(lambda g: g.clamp(-1, 1))",
        "h.register_hook(lambda g: print(g.norm()))",
        "h.register_hook(lambda g: grads.append(g.clone()))",
        "h.register_hook(lambda g: -alpha * g)",
        "w.register_hook(lambda g: g * mask)",
        "p.register_hook(lambda g: P @ g)",
        "def save(grad):\n    stats['norm'] = (grad @ grad.t()).trace()\nh.register_hook(save)",
        "def hook(grad):\n    if grad.isnan().any():\n        return torch.zeros_like(grad)\n    return grad / grad.norm()\nh.register_hook(hook)",
        "p.register_hook(lambda g: g - U @ (U.t() @ g))",
        "h.register_hook(self.unknown)",
        "def hook(module, inputs, output):\n    return output @ B\nlayer.register_forward_hook(hook)",
    ],
}
