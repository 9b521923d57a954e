"""The data sets by name, known without torch: a shell completes them."""

EMBEDDED = ("digit_pairs", "digits", "teacher")
"""Made or carried by the packages that FA-Track needs: no folder of data is asked for."""

TORCHVISION = {"cifar10": "CIFAR10", "fashion_mnist": "FashionMNIST"}
"""What torchvision can read, or fetch, by its class."""
