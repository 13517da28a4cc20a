"""What frozen features are worth: classes by nearest neighbours and by a linear classifier; no encoder is trained.

Shapes: n rows, D width.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from everest.errors import ConfigError, DataError
from everest.evaluation.metrics import wilson_interval
from everest.inference.feature_rows import FeatureRow, Features

COMPARABLE = ("sha256", "layer", "per_token", "selection", "views", "windows")  # what made two files has to agree in
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1)  # C of the logistic regression: small ones hold weights back
NUM_FOLDS = 5
MAX_STEPS = 2000
TOUCHING_SECONDS = 1e-3  # spans that share no more than this follow each other: their ends are rounded


@dataclass(frozen=True)
class ProbeResult:
    """One way to classify.

    Attributes:
        name: ``20 nearest neighbours`` or ``linear``.
        top1: Share of test rows that are right, 0 to 1.
        top1_interval: Wilson's, at 95 %, with rows taken as independent.
        setting: What was chosen on the training rows, for people.
        right: Which test rows are right, in their order, to compare two ways row by row.
    """

    name: str
    top1: float
    top1_interval: tuple[float, float]
    setting: str = ""
    right: tuple[bool, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class ProbeReport:
    """What features are worth.

    Attributes:
        results: One for each way to classify.
        majority: Accuracy of always naming the class that is most frequent in training.
        num_train, num_test: Rows.
        num_train_files, num_test_files: Files that they come from.
        class_names: Those of the training rows.
    """

    results: tuple[ProbeResult, ...]
    majority: float
    num_train: int
    num_test: int
    num_train_files: int
    num_test_files: int
    class_names: tuple[str, ...]

    def summary(self) -> str:
        """Tell a person, in a few lines."""
        width = max(len(result.name) for result in self.results)
        lines = [
            f"{self.num_test} rows of {self.num_test_files} files, {len(self.class_names)} classes; learnt from "
            f"{self.num_train} rows of {self.num_train_files} files, with features as they are"
        ]
        for result in self.results:
            interval = "95 % interval {:.0%} to {:.0%}".format(*result.top1_interval)
            lines.append(f"  {result.name:{width}}  {result.top1:6.1%}  {interval}  {result.setting}".rstrip())
        lines.append(f"always the class that is most frequent in training: {self.majority:.1%}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Give everything but single rows as plain values that JSON can hold."""
        values = asdict(self)
        for result in values["results"]:
            del result["right"]
        return values


def probe(
    train: Features,
    test: Features,
    *,
    num_neighbors: Sequence[int] = (1, 20),
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> ProbeReport:
    """Classify test rows by what is known of training rows.

    Nearest neighbours are those of the smallest angle, and near ones count more. The linear classifier is a logistic
    regression on standardised features; how strongly its weights are held back is chosen by cross-validation within the
    training rows, in which rows of one file stay together.

    Args:
        train: Labelled rows.
        test: Labelled rows of other clips, made in the same way.
        num_neighbors: How many are asked; more than there are rows count as all.
        seed: Of how files are divided for cross-validation.
        groups: The scene of each training row, which stay together instead of those of one file.

    Raises:
        ConfigError: scikit-learn is missing, the two were not made in the same way, or groups are not one for each row.
        DataError: Rows have no labels, some show the same seconds of a file in both, or there is one class only.
    """
    _require_same_making(train, test)
    names, train_labels, test_labels = _labels(train, test)
    known, asked = train.matrix(), test.matrix()  # each [n, D]
    files = np.array([row.path for row in train.rows])
    if groups is not None and len(groups) != len(files):
        raise ConfigError(f"{len(files)} training rows need a group each, given: {len(groups)}")
    together = files if groups is None else np.array(groups)
    results = []
    for count in dict.fromkeys(min(number, len(known)) for number in num_neighbors):
        called = f"{count} nearest neighbour" + ("s" if count > 1 else "")
        results.append(_result(called, _by_neighbors(known, train_labels, asked, count), test_labels))
    predicted, setting = _by_regression(known, train_labels, asked, together, seed)
    results.append(_result("linear", predicted, test_labels, setting))
    most = int(np.bincount(train_labels).argmax())
    return ProbeReport(
        tuple(results),
        float((test_labels == most).mean()),
        len(known),
        len(asked),
        len(set(files.tolist())),
        len({row.path for row in test.rows}),
        names,
    )


def _by_neighbors(known: Any, labels: Any, asked: Any, count: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(count, weights="distance", metric="cosine").fit(known, labels).predict(asked)


def _by_regression(known: Any, labels: Any, asked: Any, groups: Any, seed: int) -> tuple[Any, str]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_STEPS))
    fewest = min(len(set(groups[labels == label].tolist())) for label in np.unique(labels))
    num_folds = min(NUM_FOLDS, fewest)
    if num_folds < 2:
        return model.fit(known, labels).predict(asked), "C = 1: a class of one file cannot be divided to choose it"
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    search = GridSearchCV(model, {"logisticregression__C": list(STRENGTHS)}, cv=folds)
    search.fit(known, labels, groups=groups)
    return search.predict(asked), f"C = {search.best_params_['logisticregression__C']:g}, chosen on {num_folds} folds"


def _result(name: str, predicted: Any, labels: Any, setting: str = "") -> ProbeResult:
    right = predicted == labels  # [n]
    num_right = int(right.sum())
    return ProbeResult(
        name, num_right / len(labels), wilson_interval(num_right, len(labels)), setting, tuple(right.tolist())
    )


def _require_same_making(train: Features, test: Features) -> None:
    different = [key for key in COMPARABLE if train.made_by.get(key) != test.made_by.get(key)]
    if different:
        raise ConfigError(
            f"the two files of features differ in {', '.join(different)}: make both by the same everest embed command, "
            "of other videos only"
        )


def _labels(train: Features, test: Features) -> tuple[tuple[str, ...], Any, Any]:
    """Class names, and the class of every row, [n] each."""
    for which, features in (("training", train), ("test", test)):
        unlabelled = [row.path for row in features.rows if row.label is None]
        if not features.rows or unlabelled:
            found = f"{len(unlabelled)} have none, the first: {unlabelled[0]}" if unlabelled else "there are no rows"
            raise DataError(f"every {which} row needs a label, and {found}: embed a manifest with labels")
    shared = _shared(train.rows, test.rows)
    if shared:
        start = shared[0].start_seconds
        where = "" if start is None else f" from {start:g} s"
        raise DataError(
            f"{len(shared)} test rows show seconds of a video that training rows show too, the first: "
            f"{shared[0].path}{where}: take other videos"
        )
    names = tuple(sorted({str(row.label) for row in train.rows}))
    if len(names) < 2:
        raise DataError(f"the training rows have one class only, {names[0]}: two or more are needed")
    unknown = sorted({str(row.label) for row in test.rows} - set(names))
    if unknown:
        raise DataError(f"classes of the test rows that no training row has: {', '.join(unknown)}")
    numbers = {name: number for number, name in enumerate(names)}
    known, asked = (np.array([numbers[str(row.label)] for row in features.rows]) for features in (train, test))
    return names, known, asked


def _shared(train: Sequence[FeatureRow], test: Sequence[FeatureRow]) -> list[FeatureRow]:
    """Test rows of whose file a training row shows some of the same seconds."""
    resolve = cache(lambda path: Path(path).resolve())  # of each file once, not of each row
    known: dict[Path, list[tuple[float, float]]] = defaultdict(list)
    for row in train:
        known[resolve(row.path)].append(_span(row))

    def is_known(row: FeatureRow) -> bool:
        start, end = _span(row)
        spans = known.get(resolve(row.path), ())
        return any(min(end, last) - max(start, first) > TOUCHING_SECONDS for first, last in spans)

    return [row for row in test if is_known(row)]


def _span(row: FeatureRow) -> tuple[float, float]:
    return row.start_seconds or 0.0, math.inf if row.end_seconds is None else row.end_seconds
