# SPDX-License-Identifier: Apache-2.0
"""Is the phantoms' lesion label honest? Brightness and random features must fail at it, a trained network must not.

Trains on slices of the default set's patients and tests on patients that it has not seen::

    OMP_NUM_THREADS=1 python benchmarks/phantoms_not_rigged.py

prints a Markdown table of balanced accuracies, mean and standard deviation over seeds. Each seed draws another set of
patients, other random encoders and another start of the training. Takes about 3 minutes per seed on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.networks.nets import resnet18
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from monai_mixssl.data.phantoms import PATIENTS, phantom_volume


def labelled_slices(patients: range, *, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """All slices of some patients: images in [0, 1], float32 (N, 1, 64, 64), and labels 0 or 1, (N,)."""
    images, labels = [], []
    for index in patients:
        phantom = phantom_volume(index, seed=seed)
        array = phantom.array.astype(np.float32)
        low, high = (-1000.0, 1000.0) if phantom.modality == "CT" else np.percentile(array, (0.5, 99.5))
        images.append(np.clip((array - low) / (high - low), 0.0, 1.0).astype(np.float32).transpose(2, 0, 1))
        labels.append(np.full(array.shape[2], phantom.label))
    return torch.from_numpy(np.concatenate(images)[:, None]), np.concatenate(labels)


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut; halves the map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class SmallNetwork(nn.Module):
    """A residual network of 0.3 million parameters; gives its four maps, 32² to 4² for a slice of 64²."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stages = nn.ModuleList([Block(16, 32), Block(32, 64), Block(64, 128)])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class StockResNet(nn.Module):
    """MONAI's resnet18 as it comes, randomly initialised; gives its stem's and its four stages' maps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        n = self.net
        maps = [n.act(n.bn1(n.conv1(x)))]
        for stage in (nn.Sequential(n.maxpool, n.layer1), n.layer2, n.layer3, n.layer4):
            maps.append(stage(maps[-1]))
        return maps


Data = tuple[torch.Tensor, np.ndarray]


def regression_accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> float:
    """Best held-out balanced accuracy of a logistic regression over three strengths of regularisation.

    The strength is chosen on the test patients themselves, to the advantage of the features that ought to fail.
    """
    best = 0.0
    for strength in (0.001, 0.03, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        predicted = model.fit(train, train_labels).predict(test)
        best = max(best, float(balanced_accuracy_score(test_labels, predicted)))
    return best


def intensity_accuracy(train: Data, test: Data, *, moments: bool = False) -> float:
    """Balanced accuracy of mean intensity; or of mean, deviation, skewness, kurtosis and their squares."""

    def describe(images: torch.Tensor) -> np.ndarray:
        x = images.flatten(1).double()
        mean, deviation = x.mean(1), x.std(1)
        columns = [mean]
        if moments:
            z = (x - mean[:, None]) / deviation[:, None]
            columns += [deviation, (z**3).mean(1), (z**4).mean(1)]
            columns += [c**2 for c in columns]
        return torch.stack(columns, dim=1).numpy()

    return regression_accuracy(describe(train[0]), train[1], describe(test[0]), test[1])


@torch.no_grad()
def frozen_accuracy(make: Callable[[], nn.Module], train: Data, test: Data, *, seed: int) -> dict[str, float]:
    """Balanced accuracy on features of a random encoder: last map pooled, last map pooled to 2x2, all maps pooled.

    The encoder's batch norms see the training slices once: without that the features of deep random networks fade.
    """
    torch.manual_seed(seed)
    encoder = make().train()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over all batches
    for batch in train[0].split(64):
        encoder(batch)
    encoder.eval()

    def tap(images: torch.Tensor) -> dict[str, np.ndarray]:
        taps: dict[str, list[torch.Tensor]] = {"last map": [], "last map, 2x2": [], "all maps": []}
        for batch in images.split(64):
            maps = encoder(batch)
            taps["last map"].append(maps[-1].mean((2, 3)))
            taps["last map, 2x2"].append(nn.functional.adaptive_avg_pool2d(maps[-1], 2).flatten(1))
            taps["all maps"].append(torch.cat([m.mean((2, 3)) for m in maps], dim=1))
        return {name: torch.cat(parts).numpy() for name, parts in taps.items()}

    seen, unseen = tap(train[0]), tap(test[0])
    return {name: regression_accuracy(seen[name], train[1], unseen[name], test[1]) for name in seen}


def scratch_accuracy(train: Data, test: Data, *, seed: int, epochs: int) -> float:
    """Held-out balanced accuracy of the small network trained on all labels, at the last epoch."""
    torch.manual_seed(seed)
    rng = np.random.RandomState(seed)
    encoder, head = SmallNetwork(), nn.Linear(128, 2)
    parameters = [*encoder.parameters(), *head.parameters()]
    images, labels = train[0], torch.from_numpy(train[1])
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05)
    steps = -(-len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps * epochs)
    for _ in range(epochs):
        for chosen in np.array_split(rng.permutation(len(images)), steps):
            batch = torch.stack([_augment(image, rng) for image in images[chosen]])
            loss = nn.functional.cross_entropy(head(encoder(batch)[-1].amax((2, 3))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    encoder.eval()
    with torch.no_grad():
        predicted = torch.cat([head(encoder(b)[-1].amax((2, 3))).argmax(1) for b in test[0].split(64)])
    return float(balanced_accuracy_score(test[1], predicted.numpy()))


def _augment(image: torch.Tensor, rng: np.random.RandomState) -> torch.Tensor:
    """Flips, quarter turns and shifts by up to 6 pixels."""
    image = torch.rot90(image, int(rng.randint(4)), (1, 2))
    if rng.randint(2):
        image = image.flip(2)
    return image.roll(tuple(int(s) for s in rng.randint(-6, 7, size=2)), (1, 2))


def measure(seed: int, *, patients: int, held_out: int, epochs: int, encoders: int) -> dict[str, float]:
    """All balanced accuracies of one seed, by row of the table."""
    train = labelled_slices(range(patients), seed=seed)
    test = labelled_slices(range(patients, patients + held_out), seed=seed)
    result = {
        "mean intensity": intensity_accuracy(train, test),
        "four moments and their squares": intensity_accuracy(train, test, moments=True),
    }
    for name, make in (("small network", SmallNetwork), ("MONAI resnet18", StockResNet)):
        runs = [frozen_accuracy(make, train, test, seed=1000 * seed + n) for n in range(encoders)]
        for tap in runs[0]:
            result[f"random frozen {name}, {tap}"] = float(np.mean([run[tap] for run in runs]))
    if epochs:
        result["small network from scratch, all labels"] = scratch_accuracy(train, test, seed=seed, epochs=epochs)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=PATIENTS, help="to train on")
    parser.add_argument("--held_out", type=int, default=60, help="further patients to test on")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--encoders", type=int, default=3, help="random encoders per seed")
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = []
    for seed in range(arguments.seeds):
        results.append(
            measure(
                seed,
                patients=arguments.patients,
                held_out=arguments.held_out,
                epochs=arguments.epochs,
                encoders=arguments.encoders,
            )
        )
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    print("| classifier | balanced accuracy, % | lowest | highest |\n|---|---|---|---|")
    for row in results[0]:
        values = 100.0 * np.array([result[row] for result in results])
        print(f"| {row} | {values.mean():.1f} ± {values.std(ddof=1):.1f} | {values.min():.1f} | {values.max():.1f} |")


if __name__ == "__main__":
    main()
