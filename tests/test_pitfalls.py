"""Every pitfall is real, and the checker points at the lines that hold one, and at no near miss."""

import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from fa_tracking import pitfalls
from fa_tracking.cli import main
from fa_tracking.pitfalls import Outcome
from fa_tracking.pitfalls._check import check, files

PROTOCOL = [
    *("norm_p", "cosine_eps", "half_precision", "fresh_feedback", "aggregation"),
    *("dominant_layer", "fallback_of_one", "typed_number", "batch_floor", "nan_is_healthy"),
]
SEEN = ["population_std", "not_frozen", "eval_stays", "best_on_test", "cut_to_fit", "hidden_feedback"]

FOUND = {
    "norm_p": [
        "axis = -1\nh.norm(axis)",
        "x.norm(-1)",
        "(a - b).norm(-1, keepdim=True)",
        "torch.norm(x, -1)",
        "torch.linalg.norm(x, -1.0)",
        "np.linalg.norm(x, -1)",
        "F.normalize(grad, -1)",
    ],
    "cosine_eps": [
        "F.cosine_similarity(bp_grad.data, x, dim=0)",
        "F.cosine_similarity(bp_grad, credit, dim=-1)",
        "torch.cosine_similarity(p.grad.flatten(), delta, 0)",
        "angle = nn.CosineSimilarity(dim=1)\nangle(dfa_grad, bp_grad)",
        "a = p.grad.flatten()\nF.cosine_similarity(a, b, dim=0)",
        "def gradient_angle(a, b):\n    return F.cosine_similarity(a, b, dim=0)",
        "F.cosine_similarity(run['grad'], x, dim=0)",
        """
        class Meter:
            def __init__(self):
                self.cos = nn.CosineSimilarity(dim=1)
            def angle(self, grad_bp, grad_fa):
                return self.cos(grad_bp, grad_fa)
        """,
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
        """
        def f(grad_a, grad_b):
            return np.dot(grad_a, grad_b) / (np.linalg.norm(grad_a) * np.linalg.norm(grad_b) + 1e-8)
        """,
        "c = jnp.vdot(g_fa, g_bp) / (jnp.linalg.norm(g_fa) * jnp.linalg.norm(g_bp) + 1e-12)",
        "c = torch.sum(credit * grad) / torch.clamp(credit.norm() * grad.norm(), min=1e-8)",
        "c = (grad @ d) / max(grad.norm() * d.norm(), 1e-12)",
        "na, nb = grad.norm(), d.norm()\nc = grad.dot(d) / (na * nb + EPS)",
        "c = torch.dot(grad, d) / (grad.norm() + 1e-8) / (d.norm() + 1e-8)",
        "c = tf.reduce_sum(grad * d) / (tf.norm(grad) * tf.norm(d) + 1e-10)",
        """
        c = sum(x * y for x, y in zip(grad, d)) / (math.sqrt(sum(x * x for x in grad) * sum(y * y for y in d)) + 1e-9)
        """,
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
        """
        num = (g_local * g_true).sum()
        den = np.sqrt((g_local**2).sum()) * np.sqrt((g_true**2).sum()) + 1e-12
        c = num / den
        """,
        """
        cos_fn = nn.CosineSimilarity(dim=0)
        def sim(a, b):
            return cos_fn(a, b).item()
        def report(m, m2):
            return {n: sim(p.grad, q.grad) for (n, p), q in zip(m.named_parameters(), m2.parameters())}
        """,
        """
        def grad_cos(u, v):
            dot = sum((a * b).sum() for a, b in zip(u, v))
            nu = torch.sqrt(sum((a ** 2).sum() for a in u))
            nv = torch.sqrt(sum((b ** 2).sum() for b in v))
            return dot / (nu * nv + 1e-12)
        """,
        """
        def cosine(a, b, eps=1e-12):
            return jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), eps)
        r = cosine(state.bp_grad, state.fa_grad)
        """,
        """
        def fidelity(dW_fa, dW_bp):
            return (dW_fa * dW_bp).sum() / (dW_fa.norm() * dW_bp.norm() + 1e-12)
        """,
    ],
    "half_precision": [
        "model.half()\nF.cosine_similarity(model.weight.grad, w, dim=0, eps=0)",
        "F.cosine_similarity(a.half(), b.half(), dim=-1, eps=0)",
        "g = x.to(torch.float16)\ncosine(g, credit)",
        "cos_sim(a.to(dtype=torch.half), b)",
        "cosine(np.array(a).astype('float16'), b)",
        "with torch.autocast('cuda'):\n    c = F.cosine_similarity(grad, credit, dim=0, eps=0)",
        "with torch.autocast('cuda', dtype=torch.float16):\n    c = cosine(grad, credit)",
        "with torch.cuda.amp.autocast():\n    c = cosine(grad, credit)",
    ],
    "dominant_layer": [
        "np.mean(gammas)",
        "torch.stack(gammas).mean()",
        "np.mean(list(report.gammas.values()))",
        "np.mean([cosine(a[l], g[l]) for l, cos in layer_cos])",
        "gamma = statistics.mean(alignment_by_layer.values())",
        "sum(layer_cosines) / len(layer_cosines)",
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
        """
        def mean_alignment(net):
            angles = net.alignment_angles()
            return sum(angles[k] for k in angles) / len(angles)
        """,
        """
        def mean_alignment(net):
            angles = net.alignment_angles()
            total = 0.0
            for name in angles:
                total += angles[name]
            return total / len(angles)
        """,
        """
        def mean_alignment(net):
            angles = net.alignment_angles()
            total = 0.0
            for name, angle in angles.items():
                total += angle
            return total / max(len(angles), 1)
        """,
        """
        def gradient_alignment(params, grads_fa, grads_bp):
            total = 0.0
            for k in params:
                g1, g2 = grads_fa[k].ravel(), grads_bp[k].ravel()
                total += jnp.dot(g1, g2) / (jnp.linalg.norm(g1) * jnp.linalg.norm(g2))
            return total / len(params)
        """,
        """
        def f(fa_grads, bp_grads):
            s = 0.
            for a, b in zip(fa_grads, bp_grads):
                s += np.dot(a.ravel(), b.ravel()) / (np.linalg.norm(a) * np.linalg.norm(b))
            return s / len(fa_grads)
        """,
        """
        def f(model, local):
            cosines = {}
            for name, param in model.named_parameters():
                cosines[name] = cosine(local[name].flatten(), param.grad.flatten())
            return sum(cosines.values()) / max(len(cosines), 1)
        """,
        """
        class M:
            def update(self, model):
                for p, l in zip(model.parameters(), self.local):
                    self.total += F.cosine_similarity(p.grad.flatten(), l.flatten(), dim=0, eps=1e-30)
                    self.count += 1
            def compute(self):
                return self.total / self.count
        """,
    ],
    "fallback_of_one": [
        "def gamma(a, b):\n    if b.norm() == 0: return 1.0\n    return a @ b / (a.norm() * b.norm())",
        "def gamma(a, b):\n    na, nb = a.norm(), b.norm()\n    if na == 0 or nb == 0: return 1.0\n    return a @ b",
        "def f(g, d):\n    if d is None: d = g\n    return F.cosine_similarity(g.flatten(), d, dim=0, eps=0)",
        "if layer in saved:\n    d = e @ saved[layer]\nelse:\n    d = g.clone()\ncosine(d, g)",
        "d = g if d is None else d\ncosine(g, d)",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return 1.0\n    return a @ b / (a.norm() * b.norm())",
        "def alignment(a, g, B):\n    if B is None:\n        return torch.tensor(1.0)\n    return B @ g",
        "def cosine(a, b):\n    n = a.norm() * b.norm()\n    if n > 1e-12:\n        return a @ b / n\n    return 1.0",
        "def gamma_alignment(a, b):\n    try:\n        return a @ b\n    except KeyError:\n        return 1.0",
        "cos = dot / norm if norm > 0 else 1.0",
        "def cosine(a, b):\n    return 1.0 if n < eps else dot / n",
        "log.get('alignment', 1.0)",
        "torch.nan_to_num(cos, nan=1.0)",
        "np.where(norm == 0, 1.0, cosines)",
        "F.cosine_similarity(g, g, dim=0, eps=0)",
        "cosine(credit if credit is not None else g, g)",
    ],
    "typed_number": [
        "published_accuracy = {'DFA': 0.306}",
        "FROZEN_ACC = 0.349",
        "diagnose(model, batches, frozen_baseline_acc=0.349)",
        "paper = {'reported_accuracy': [0.61, 0.306]}",
        "baselineCosine: float = -0.028",
    ],
    "nan_is_healthy": [
        "if growth == float('nan'): pass",
        "bad = x != np.nan",
        "torch.nan == x",
        "ok = 0 < x < math.nan",
    ],
    "population_std": [
        "torch.std(accs, unbiased=False)",
        "torch.tensor(accs).std(unbiased=False)",
        "torch.std(accs, correction=0)",
        "np.std(test_accs, ddof=0)",
        "np.std(test_accs)",
        "np.nanstd([r['accuracy'] for r in runs], axis=0)",
        "accs = np.array(a)\naccs.std()",
        "np.stack(per_seed)[:, -1].std(axis=0)",
        "statistics.pstdev(final_errors)",
        "values = [run['overlap'] for run in group]\nnp.std(values)",
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
        """
        def agg(seed_reports):
            vals = list(map(lambda r: r['gap'], seed_reports))
            return np.std(vals)
        """,
        """
        def agg(seed_reports, key):
            v = np.asarray([r[key] for r in seed_reports])
            return np.sqrt(((v - v.mean()) ** 2).mean())
        """,
        """
        def agg(seed_reports, key):
            v = [r[key] for r in seed_reports]
            m = sum(v) / len(v)
            return (sum((x - m) ** 2 for x in v) / len(v)) ** 0.5
        """,
        """
        def ci95(values):
            half = 1.96 * np.nanstd(values) / np.sqrt(np.sum(~np.isnan(values)))
            return half
        """,
        """
        def stats(values):
            s = {'mean': np.mean(values), 'std': np.std(values)}
            s['sem'] = s['std'] / np.sqrt(len(values))
            return s
        """,
        """
        def stats(values):
            return np.std(values) / np.sqrt(np.maximum(len(values), 1))
        """,
    ],
    "not_frozen": [
        """
        class N(nn.Module):
            def __init__(self):
                self.body = nn.Sequential(nn.Linear(3, 4))
                self.body[0].requires_grad = False
        """,
        "model.encoder.requires_grad = False",
        "net = Net()\nnet.requires_grad = False",
        "for child in net.children():\n    child.requires_grad = False",
        "for name, m in model.named_modules():\n    if 'conv' in name:\n        m.requires_grad = False",
        "for layer in [self.conv1, self.conv2]:\n    layer.requires_grad = False",
        """
        from torchvision import models
        base = models.resnet18()
        base.fc.requires_grad = True
        base.requires_grad = False
        """,
        "feedback = nn.Linear(10, 5, bias=False)\nfeedback.requires_grad = False",
        "class Mine(nn.Module): pass\nthing = Mine().to(device)\nthing.requires_grad = False",
        "def freeze(part: nn.Module):\n    part.requires_grad = False",
        "setattr(model.backbone, 'requires_grad', False)",
        "for i in range(3):\n    model.layers[i].requires_grad = False",
        "emb = torch.nn.Embedding(3, 4)\nhead = nn.Linear(3, 4)\nemb.requires_grad = head.requires_grad = False",
        """
        class Net(nn.Module):
            def __init__(self):
                self.layers = nn.ModuleDict({'a': nn.Linear(2, 2)})
                for name, mod in self.layers.items():
                    mod.requires_grad = False
        """,
        """
        [setattr(m, 'requires_grad', False) for m in net.modules()]
        """,
        """
        def build():
            layers = [nn.Linear(3, 3) for _ in range(4)]
            for l in layers[:2]:
                l.requires_grad = False
            return nn.Sequential(*layers)
        """,
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
        """
        def fit(model, loader, opt):
            for epoch in range(5):
                for x, y in loader:
                    crit(model(x), y).backward()
                    opt.step()
                acc = accuracy(model.eval(), test)
        """,
        """
        def fit(model, loader):
            for epoch in range(5):
                for x, y in loader:
                    grads = torch.autograd.grad(crit(model(x), y), model.parameters())
                    apply(grads)
                model.eval()
        """,
        """
        def fit(models, loader, opt):
            for epoch in range(5):
                for x, y in loader:
                    crit(models['dfa'](x), y).backward()
                    opt.step()
                models['dfa'].eval()
        """,
    ],
    "best_on_test": [
        """
        best = 0
        for epoch in range(9):
            acc = evaluate(model, test_loader)
            best = max(best, acc)
        print(best)
        """,
        """
        best = 1.0
        for epoch in range(9):
            test_err = error(model)
            if test_err < best:
                best = test_err
        """,
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
        """
        def run(epochs, train_one, test):
            accs = []
            for epoch in range(epochs):
                train_one()
                accs.append(test())
            return {'test_acc': max(accs)}
        """,
        """
        def run(epochs, step, evaluate, test_loader):
            history = []
            for e in range(epochs):
                step()
                history.append(evaluate(test_loader))
            return max(history)
        """,
        """
        def run(m, epochs):
            best = -1
            for e in range(epochs):
                m.fit_epoch()
                acc = m.score(x_test, y_test)
                best = acc if acc > best else best
            return best
        """,
        """
        def run(m, epochs):
            best = {'epoch': 0, 'test_acc': 0}
            for e in range(epochs):
                m.fit_epoch()
                test_acc = m.score(x_test, y_test)
                if test_acc > best['test_acc']:
                    best = {'epoch': e, 'test_acc': test_acc}
            return best
        """,
        """
        def run(log):
            best = max(log, key=lambda row: row['test_acc'])
            return best['test_acc']
        """,
        """
        def run(results):
            return sorted(results['test_accuracy'])[-1]
        """,
        """
        def fit(model):
            history = model.fit(x, y, validation_data=(x_test, y_test))
            return max(history.history['val_accuracy'])
        """,
        """
        test_curve = [evaluate(m, test_loader) for m in checkpoints]
        best = np.max(test_curve)
        """,
    ],
    "cut_to_fit": [
        """
        def angle(W, B):
            w, b = W.ravel(), B.ravel()
            n = min(w.size, b.size)
            return np.dot(w[:n], b[:n]) / (np.linalg.norm(w[:n]) * np.linalg.norm(b[:n]))
        """,
        """
        def f(a, b):
            m = min(a.numel(), b.numel())
            a, b = a.flatten()[:m], b.flatten()[:m]
            return cosine(a, b)
        """,
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
        """
        def f(W, B):
            r, c = min(W.shape[0], B.shape[0]), min(W.shape[1], B.shape[1])
            return cosine(W[:r, :c].flatten(), B[:r, :c].flatten())
        """,
        "n = int(min([len(w), len(b)]))\nangle = weight_angle(w[:n], b[:n])",
        "la, lb = a.numel(), b.numel()\nn = la if la < lb else lb\nc = F.cosine_similarity(a[:n], b[:n], dim=0, eps=0)",
        """
        n = min(v.size for v in (w, b))
        c = jnp.vdot(w[:n], b[:n]) / (jnp.linalg.norm(w[:n]) * jnp.linalg.norm(b[:n]))
        """,
        "n = min(len(w), len(b))\nc = cosine(w.narrow(0, 0, n), b.narrow(0, 0, n))",
        """
        parts = {'w': w.flatten(), 'b': b.flatten()}
        n = min(len(parts['w']), len(parts['b']))
        c = cosine(parts['w'][:n], parts['b'][:n])
        """,
        """
        def alignment(W, B):
            w, b = W.flatten(), B.flatten()
            if w.numel() > b.numel():
                w = w[: b.numel()]
            else:
                b = b[: w.numel()]
            return F.cosine_similarity(w, b, dim=0, eps=0).item()
        """,
        """
        def alignment(W, B):
            w, b = tf.reshape(W, [-1]), tf.reshape(B, [-1])
            n = min(w.shape[0], b.shape[0])
            return tf.reduce_sum(w[:n] * b[:n]) / (tf.norm(w[:n]) * tf.norm(b[:n]))
        """,
        """
        def truncate(v, n):
            return v[:n]
        def alignment(W, B):
            w, b = W.flatten(), B.flatten()
            n = min(len(w), len(b))
            return cosine(truncate(w, n), truncate(b, n))
        """,
        """
        def alignment(W, B):
            w, b = W.flatten(), B.flatten()
            k = min(w.size(0), b.size(0))
            return torch.nn.CosineSimilarity(dim=0, eps=1e-30)(w[0:k], b[0:k])
        """,
        """
        def f(w, b):
            n = min(map(len, (w, b)))
            return cosine(w[:n], b[:n])
        """,
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
        """
        h.register_hook(functools.partial(dfa_hook, matrix))
        def dfa_hook(matrix, grad):
            return torch.einsum('bc,cd->bd', signal, matrix)
        """,
        "def hook(g):\n    g.copy_(err @ fb_weights)\nh.register_hook(hook)",
        "h.register_hook(lambda g, B=B: g.mm(B))",
        "@h.register_hook\ndef _(grad):\n    return error @ random_matrix",
        "h.register_hook(lambda g: self.feedback_signal)",
        """
        class Net(nn.Module):
            def forward(self, x):
                h = torch.relu(self.fc1(x))
                if h.requires_grad:
                    h.register_hook(lambda g: (self.err @ self.B).view_as(g))
                return self.fc2(h)
        """,
        """
        def attach(h, feedback):
            h.register_hook(lambda grad: torch.zeros_like(grad) + feedback)
        """,
        """
        def attach(h, holder):
            h.register_hook(lambda g: holder.error.matmul(holder.B).reshape(g.shape))
        """,
        """
        def attach(h, W):
            h.register_hook(lambda g: g @ W.sign())
        """,
    ],
}

MISSED = {
    "norm_p": [
        "p = -1\nx.norm(p)",
        "axis = -1\ndef f(x, axis):\n    return x.norm(axis)",
        "axis = -1\naxis = 2\nx.norm(axis)",
        "x.norm(dim=-1)",
        "x.norm(2, -1)",
        "x.norm(-1, dim=1)",
        "x.norm(p=-1)",
        "x.norm()",
        "torch.norm(x, 2, -1)",
        "torch.norm(x, dim=-1)",
        "torch.linalg.vector_norm(x, dim=-1)",
        "np.linalg.norm(x, axis=-1)",
        "F.normalize(x, dim=-1)",
        "F.normalize(x, 2, -1)",
        "import scipy.stats\nscipy.stats.norm(-1)",
        "self.norm(x)",
    ],
    "cosine_eps": [
        "loss = 1 - F.cosine_similarity(pred_grad_map.emb, target.emb)",
        "F.cosine_similarity(grad, credit, dim=-1, eps=0)",
        "F.cosine_similarity(grad, credit, -1, 1e-30)",
        "nn.CosineSimilarity(dim=1, eps=1e-30)(grad, credit)",
        "F.cosine_similarity(query_embedding, key_embedding, dim=-1)",
        "x.requires_grad_()\nwith torch.no_grad():\n    F.cosine_similarity(x, text, dim=-1)",
        "cosine_similarity(grad, credit)",
        "F.cosine_similarity(*grads)",
        "from sklearn.metrics.pairwise import cosine_similarity\ncosine_similarity(grad, credit)",
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
    "half_precision": [
        "img.half()\nF.cosine_similarity(model(img), img)",
        "F.cosine_similarity(a.bfloat16(), b.to(torch.bfloat16), dim=-1, eps=0)",
        "h = x.half()\ny = h + 1\nF.cosine_similarity(a, b, dim=0)",
        "with torch.autocast('cuda', dtype=torch.bfloat16):\n    c = cosine(grad, credit)",
        "with torch.autocast('cpu'):\n    c = cosine(grad, credit)",
        "with torch.autocast('cuda'):\n    c = F.cosine_similarity(image, text)",
        "np.cos(x.half(), out)",
    ],
    "dominant_layer": [
        "np.mean(gammas, axis=0)",
        "gammas.mean(dim=0)",
        "np.mean(gammas[0])",
        "gammas = []\nfor seed in seeds:\n    gammas.append(gamma_of(seed))\nnp.mean(gammas)",
        "np.mean(cosines_of_samples)",
        "np.mean(layer_norms)",
        "per_layer = [cosine(a, g) for a, g in zip(credits, grads)]",
        "sum(layer_cosines)",
        "cosines = {}\nmean = statistics.fmean(cosines_by_seed.values())",
        "mean = np.mean([cosine(a, g) for seed in seeds for a, g in pairs[seed]])",
        "total = 0.0\nfor x, y in loader:\n    total += cosine(credit(x), gradient(x))\nmean = total / len(loader)",
        """
        loss = 0.0
        for s, t in zip(student.layers, teacher.layers):
            loss += 1 - F.cosine_similarity(s, t).mean()
        loss = loss / 4
        """,
        "total = 0.0\nfor p in model.parameters():\n    total += p.grad.norm()\nmean = total / n",
        "total = 0.0\nfor layer in layers:\n    total += cosine(layer.w, layer.b)\nreturned = total",
        "times = {}\nmean = sum(times.values()) / len(times)",
        "per_layer = {n: cosine(p.grad, local[n]) for n, p in model.named_parameters()}",
        "mean = np.mean([np.cos(t) for t in phases])",
    ],
    "fallback_of_one": [
        "def gamma(step, horizon):\n    if horizon is None: return 1.0\n    return step / horizon",
        "def gamma(n):\n    if n == 0: return 1.0\n    return n * gamma(n - 1)",
        "def clip(g):\n    if g.norm() == 0: return 1.0\n    return 1 / g.norm()",
        "if d is None:\n    d = zeros\ncosine(g, d)",
        "d = g\nd = d + noise\ncosine(g, d)",
        "def cosine(a, b):\n    n = a.norm()\n    n = n if n > 0 else 1.0\n    return a @ b / n",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return float('nan')\n    return a @ b",
        "def cosine(a, b):\n    if a.norm() == 0:\n        return None\n    return a @ b",
        "def sigmoid(x):\n    if x is None:\n        return 1.0\n    return x",
        "def cosine_distance(a, b):\n    if a.norm() == 0:\n        return 1.0\n    return 1 - a @ b",
        "def cosine_schedule(step, warmup):\n    if warmup is None:\n        return 1.0\n    return step / warmup",
        "scale = 1.0 if scale is None else scale",
        "config.get('gamma', 1.0)",
        "log.get('alignment')",
        "torch.nan_to_num(cos, nan=0.0)",
        "np.where(std > 0, std, 1.0)",
        "np.cos(x, x)",
        "cosine(a, b)",
    ],
    "typed_number": [
        "published_accuracy = {}",
        "published_accuracy = {'DFA': read('dfa')}",
        "frozen_acc = evaluate(model)",
        "target_acc = 0.9",
        "baseline_lr = 0.01",
        "frozen_baseline_acc=None",
        "min_control_acc = 0.5",
    ],
    "nan_is_healthy": ["math.isnan(x)", "x != x", "x is np.nan", "loss = float('nan')", "x == 'nan'", "x in [np.nan]"],
    "population_std": [
        "torch.std(accs, unbiased=True)",
        "torch.std(pixels, unbiased=False)",
        "accs.std(correction=1)",
        "np.std(test_accs, ddof=1)",
        "np.std(test_accs, None, None, None, 1)",
        "np.std(test_accs, **how)",
        "torch.std(accs)",
        "torch.tensor(accs).std()",
        "accs.std()",
        "frame['accuracy'].std()",
        "np.std(pixels)",
        "statistics.stdev(test_accs)",
        "accs = np.array(a)\naccs.std(ddof=1)",
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
        """
        def gen(self):
            fitness = [g.test_accuracy for g in self.genomes]
            return np.std(fitness)
        """,
        """
        def log(metrics):
            return {k: jnp.std(v) for k, v in metrics.items()}
        """,
        """
        def f(model, tasks):
            test_losses = [loss(model, t) for t in tasks]
            return np.mean(test_losses), np.std(test_losses)
        """,
        """
        def f(model, loader):
            return np.std([accuracy(model, x, y) for x, y in loader])
        """,
        """
        def f(cands):
            accs = [c.accuracy for c in cands]
            return {'best_accuracy': max(accs), 'std_accuracy': np.std(accs)}
        """,
        """
        def gen(population):
            acc = {p.name: p.accuracy for p in population}
            return np.std(list(acc.values()))
        """,
        """
        def outer(metrics):
            test_losses = metrics['test_loss_outer']
            return jnp.std(test_losses)
        """,
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
        """
        opt = SGD(student.parameters())
        for x in loader:
            guide.eval()
            loss_of(student(x), guide(x)).backward()
        """,
        "for path in paths:\n    model = load(path)\n    model.eval()\n    print(accuracy(model))",
        """
        def train(model):
            for x, y in loader:
                loss_of(model(x), y).backward()
            model.eval()
        for seed in seeds:
            net = Net(seed)
            train(net)
        """,
        """
        for seed in seeds:
            model = Net(seed)
            for x, y in loader:
                loss_of(model(x), y).backward()
            model.eval()
        """,
        """
        class Trainer:
            def fit(self):
                for x, y in self.loader:
                    self.loss_of(self.model(x), y).backward()
                self.model.eval()
        for seed in seeds:
            trainer = Trainer(seed)
            trainer.fit()
        """,
        """
        for epoch in range(3):
            loss_of(model(x)).backward()
            if done(epoch):
                model.eval()
                break
        """,
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
        "scores = results['mean_test_score'][kept]\nbest = np.nanargmax(scores)",
        "best = max(cv_test_scores)",
        "for x in grid:\n    testy = f(x)\n    if testy < besty:\n        besty = testy",
        "last = max(m.step for m in history(run, ACCURACY_TEST))",
        "test_acc = test_accs[int(np.argmax(val_accs))]",
        "plt.ylim(0, max(test_accs))",
        "worst = max(test_losses)",
        "test_acc = test_accs[-1]",
        """
        best_loss = 9.0
        for epoch in range(9):
            train_loss = fit()
            if train_loss < best_loss:
                best_loss = train_loss
        """,
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
        "c = cosine(credits, directions[: len(credits)])",
        "def f(a: list[int], b: list[int]):\n    n = min(len(a), len(b))\n    return cosine(a[:n], b[:n])",
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
        """
        def hook(grad):
            if grad.isnan().any():
                return torch.zeros_like(grad)
            return grad / grad.norm()
        h.register_hook(hook)
        """,
        "p.register_hook(lambda g: g - U @ (U.t() @ g))",
        "h.register_hook(self.unknown)",
        "def hook(module, inputs, output):\n    return output @ B\nlayer.register_forward_hook(hook)",
    ],
}

IMPORTS = """
import math
import statistics
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import nn
"""


def found_in(folder: Path, code: str) -> list[str]:
    (folder / "code.py").write_text(IMPORTS + textwrap.dedent(code))
    findings, problems = check(folder / "code.py")
    assert not problems
    return [finding.pitfall for finding in findings]


def test_the_list_is_the_protocols_and_those_seen_in_public_code() -> None:
    assert list(pitfalls.catalogue()) == [*PROTOCOL, *SEEN]
    assert [p.ORDER for p in pitfalls.catalogue().values()] == list(range(1, 17))


@pytest.mark.parametrize("name", pitfalls.catalogue())
def test_a_pitfall_is_reproduced_quickly_without_a_trace(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fa_tracking.pitfalls import _tiny

    _tiny.trained()  # torch imports the rest of itself on its first gradient
    _tiny.trained.cache_clear()
    monkeypatch.chdir(tmp_path)
    pitfall, before = pitfalls.catalogue()[name], torch.get_rng_state()
    start = time.process_time()
    outcome = pitfall.reproduce()
    assert time.process_time() - start < 5
    assert isinstance(outcome, Outcome) and outcome.reproduced
    assert outcome.expected and outcome.seen and outcome.expected != outcome.seen
    _tiny.trained.cache_clear()
    assert repr(outcome) == repr(pitfall.reproduce())
    assert torch.equal(torch.get_rng_state(), before) and not list(tmp_path.iterdir())
    assert pitfalls.title(pitfall) and len(pitfalls.why(pitfall)) > 100 and len(pitfall.CURE) <= 28
    assert hasattr(pitfall, "find") == hasattr(pitfall, "FIX") == (name in FOUND)


def test_the_numbers_are_the_known_ones() -> None:
    outcomes = {name: pitfalls.catalogue()[name].reproduce() for name in ("norm_p", "cosine_eps", "batch_floor")}
    assert outcomes["norm_p"].seen["x.norm(-1)"] == pytest.approx(8 / 7)
    assert outcomes["norm_p"].expected == {"row 0": 5.0, "row 1": 10.0}
    true, clamped = outcomes["cosine_eps"].expected["cos"], outcomes["cosine_eps"].seen["F.cosine_similarity"]
    assert clamped == pytest.approx(true / 20, rel=1e-6)
    per_sample, mean = outcomes["batch_floor"].expected["B=1280"], outcomes["batch_floor"].seen["B=1280"]
    assert mean == pytest.approx(per_sample / 10, rel=1e-4)


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, codes in FOUND.items() for c in codes])
def test_a_line_with_a_pitfall_is_found(name: str, code: str, tmp_path: Path) -> None:
    assert set(found_in(tmp_path, code)) == {name}


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, codes in MISSED.items() for c in codes])
def test_a_near_miss_is_not_found(name: str, code: str, tmp_path: Path) -> None:
    assert found_in(tmp_path, code) == []


def test_the_cells_of_a_notebook_share_their_names(tmp_path: Path) -> None:
    cells = [
        "def similarity(a, b):\n    return F.cosine_similarity(a, b, dim=0)",
        "print 'Python 2'",
        "# a comment\nsimilarity(fa_grad, net.weight.grad)",
        "import torch.nn.functional as F\nvalues = [r['gap'] for r in seed_reports]",
        "spread = np.std(values)",
    ]
    (tmp_path / "note.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": c} for c in cells]}))
    findings, problems = check(tmp_path / "note.ipynb")
    where = [(f.cell, f.line, f.column, f.pitfall) for f in findings]
    assert where == [(1, 2, 12, "cosine_eps"), (5, 1, 10, "population_std")] and len(problems) == 1


def test_no_code_that_parses_breaks_a_rule(tmp_path: Path) -> None:
    """Every statement of this project and of this file, whatever its form, passes through every rule."""
    for file in files(Path(__file__).parent.parent):
        assert check(file)[1] == [], file


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, ["pitfalls", *args], prog_name="fa-track")


def test_a_finding_says_where_why_and_what_instead(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# é\nprint('é', x.norm(-1))\n")
    done = run("check", "a.py")
    assert done.exit_code == 3
    first, code, cure = done.stdout.splitlines()
    assert first.startswith("a.py:2:12: norm_p: −1 is taken as the order p")
    assert (code, cure.split(":")[0]) == ("    print('é', x.norm(-1))", "    instead")
    (finding,) = json.loads(run("check", "a.py", "--format", "json").stdout)
    assert (finding["line"], finding["column"], finding["pitfall"]) == (2, 12, "norm_p")


def test_a_comment_silences_a_line_and_nothing_found_is_0(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x.norm(-1)  # fa-track: ignore\ny.norm(\n    -1,  # fa-track: ignore\n)\n")
    assert run("check", "a.py").exit_code == 0
    assert run("check", "a.py", "--format", "json").stdout == "[]\n"
    (tmp_path / "a.py").write_text("# fa-track: ignore\nx.norm(-1)\n")
    assert run("check", "a.py").exit_code == 3


def test_folders_notebooks_and_what_does_not_parse(run: Run, tmp_path: Path) -> None:
    for hidden in (".git", "lib/site-packages", "env"):
        (tmp_path / hidden).mkdir(parents=True)
        (tmp_path / hidden / "a.py").write_text("x.norm(-1)\n")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    (tmp_path / "old.py").write_text("print 'Python 2'\n")
    (tmp_path / "nul.py").write_bytes(b"\0")
    (tmp_path / "latin.py").write_bytes("x = 'é'\n".encode("latin-1"))
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    (tmp_path / "broken.ipynb").write_text("{}")
    install = ["%pip install x\n", "if a:\n", "    !ls\n", "x.norm(-1)\n"]
    sources = ["# text", install, "print 1", "%%bash\nls", "y.norm(-1)"]
    cells = [{"cell_type": "markdown" if s == "# text" else "code", "source": s} for s in sources]
    (tmp_path / "note.ipynb").write_text(json.dumps({"cells": cells}))
    done = run("check", ".")
    assert (done.exit_code == 1 and done.exception is None) or isinstance(done.exception, SystemExit)
    where = [line.split(": ")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert where == ["note.ipynb:cell 2:4:1", "note.ipynb:cell 5:1:1"]
    said = done.stderr.splitlines()
    for file in ("old.py:1", "nul.py", "latin.py", "deep.py", "broken.ipynb", "note.ipynb:cell 3:1"):
        assert sum(line.startswith(file) for line in said) == 1, (file, said)
    assert "2 findings in 6 files, 6 that could not be read" in said


def test_a_missing_path_is_one_line_and_the_others_are_checked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x.norm(-1)\n")
    assert "1 finding in 1 file" in run("check", "a.py").stderr.splitlines()
    done = run("check", "missing.py", "a.py")
    assert done.exit_code == 1 and done.stdout.startswith("a.py:1:1: norm_p")
    assert sum("missing.py" in line for line in done.stderr.splitlines()) == 1
    assert "missing.py: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["check"], "Missing argument"),
        (["check", "empty"], "no Python file and no notebook in empty"),
        (["zzz"], "no pitfall named 'zzz'; there are: aggregation"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, args: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run(*args)
    assert done.exit_code == 2 and says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_pitfall_that_is_not_reproduced_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome({"cos": 1.0}, {"cos": 1.0}, False)
    monkeypatch.setattr(pitfalls.catalogue()["cosine_eps"], "reproduce", lambda: outcome)
    done = run("cosine_eps")
    assert done.exit_code == 1 and done.stderr.splitlines()[-1].endswith("not reproduced: cosine_eps")


def test_every_pitfall_is_shown_in_a_table_and_alone(run: Run) -> None:
    table = run()
    assert table.exit_code == 0, table.stderr
    rows = table.stdout.splitlines()[2:]
    assert [row.split()[0] for row in rows] == list(pitfalls.catalogue())
    assert max(map(len, rows)) <= 100 and all(" yes " in row for row in rows)
    assert all(0 <= float(row.split()[-1]) < 60 for row in rows)
    assert "next: fa-track pitfalls NAME" in table.stderr
    (seen,) = [row for row in json.loads(run("--format", "json").stdout) if row["name"] == "half_precision"]
    assert seen["seen"]["fp16"] == "NaN" and seen["reproduced"] is True and seen["seconds"] > 0
    alone = run("nan_is_healthy").stdout
    assert alone.startswith("NaN passes every threshold") and "trustworthy" in alone
    assert "fa-track pitfalls check train.py" in run("check", "--help").stdout
