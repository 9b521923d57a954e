"""The data sets by name, known without torch: a shell completes them."""

EMBEDDED = {"digit_pairs": (1, 16, 8), "digits": (1, 8, 8), "teacher": (1, 8, 8)}
"""Made or carried by the packages that FA-Track needs: no folder of data is asked for. Their samples are rows of
features; the shape is (C, H, W) as a network of images takes them, a pair's digits one above the other."""

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST", "mnist": "MNIST"}
"""What torchvision can read, or fetch, by its class."""
