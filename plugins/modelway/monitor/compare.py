"""What a window of requests says of each rule: a schema change, drift, worse quality; or that there is too little."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelway.monitor.reference import NUMBERS, Feature, Reference, Tally
from modelway.monitor.rules import DriftRule, QualityRule
from modelway.monitor.statistics import chi_square, fewer, larger, smirnov, stability_index

SCHEMA, DRIFT, QUALITY, VOLUME, STALENESS = RULES = ("schema", "drift", "quality", "volume", "staleness")
#: shares of the rows from which a schema has changed, and the fewest rows
_NEW_CATEGORY, _OUT_OF_RANGE, _MORE_MISSING, _OTHER_KIND = 0.01, 0.2, 0.1, 0.01
_FEWEST = 10
#: an alarm ends when the effect is below this part of its floor
_CLEARED = 0.5
#: and below this part where the difference may be chance as well
_CLEARED_BY_CHANCE = 0.75
#: features that a reason names, and a record has
_NAMED, _RECORDED = 3, 20


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule says now."""

    rule: str
    #: the rule's limit is passed; ``is_clear``: by far it is not. Neither: an alarm stays as it is
    is_over: bool = False
    is_clear: bool = False
    #: too little is known to say anything
    is_undecided: bool = False
    reason: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rebuilds(self) -> bool:
        """Whether training begins anew, and not with the base."""
        return self.rule == SCHEMA


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How one feature differs from the reference."""

    key: str
    psi: float
    #: of numbers; of categories Cohen's w
    distance: float
    p: float
    #: the greatest of the effects in parts of its floor
    strength: float

    def text(self, kind: str) -> str:
        """Return it for people."""
        name = "KS" if kind == NUMBERS else "w"
        return f"{self.key}: PSI {self.psi:.2f}, {name} {self.distance:.2f}, p {self.p:.1g}"


def find_drift(reference: Reference, window: Mapping[str, Tally], rule: DriftRule) -> Finding:
    """Return whether features of the window are distributed otherwise than those of the reference.

    A feature has drifted where an effect is above its floor and the test's p-value below the rule's, divided by the
    number of tests (Bonferroni); with many rows every difference is significant, with few every effect is large.
    """
    known = (each for each in reference.features if not each.is_open)
    tested = [each for each in known if sum(window.get(each.key, Tally()).bins)]
    rows = max((window[each.key].rows for each in tested), default=0)
    if rows < rule.minimum_rows:
        text = f"{rows:,} rows, {rule.minimum_rows:,} are needed"
        return Finding(rule=DRIFT, is_undecided=True, reason=text, numbers={"rows": rows})
    alpha = rule.alpha / (2 * len(tested))
    effects = [(each, _effect(each, window[each.key], rule)) for each in tested]
    over = [(each, effect) for each, effect in effects if effect.strength >= 1 and effect.p < alpha]
    over.sort(key=lambda pair: (pair[0].is_prediction, -pair[1].strength))
    strongest = max(effect.strength for _, effect in effects)
    named = "; ".join(effect.text(each.kind) for each, effect in over[:_NAMED])
    more = f"; and {len(over) - _NAMED} more" if len(over) > _NAMED else ""
    shown = sorted((effect for _, effect in effects), key=lambda effect: -effect.strength)[
        : _RECORDED if over else _NAMED
    ]
    return Finding(
        rule=DRIFT,
        is_over=bool(over),
        is_clear=not over
        and (strongest < _CLEARED or (strongest < _CLEARED_BY_CHANCE and all(each.p > alpha for _, each in effects))),
        reason=f"drift of {len(over)} of {len(tested)} features on {rows:,} rows: {named}{more}" if over else "",
        numbers={
            "rows": rows,
            "features": len(tested),
            "drifted": len(over),
            "strength": strongest,
            "psi": max(effect.psi for _, effect in effects),
            "effects": [vars(effect) for effect in shown],
        },
    )


def _effect(feature: Feature, tally: Tally, rule: DriftRule) -> Effect:
    before, now = feature.tally.bins, tally.bins
    psi = stability_index(before, now)
    if feature.kind == NUMBERS:
        distance, p = smirnov(before, now)
        return _effect_of(feature, psi, distance, rule.ks, rule, p=p, other_p=chi_square(before, now)[1])
    distance, p = chi_square(before, now)
    return _effect_of(feature, psi, distance, rule.w, rule, p=p, other_p=p)


def _effect_of(
    feature: Feature, psi: float, distance: float, floor: float, rule: DriftRule, *, p: float, other_p: float
) -> Effect:
    """Return the effect with the p-value of the test whose effect is the greater part of its floor."""
    parts = ((psi / rule.psi, other_p), (distance / floor, p))
    strength, p = max(parts)
    return Effect(key=feature.key, psi=psi, distance=distance, p=p, strength=strength)


def find_schema_change(reference: Reference, window: Mapping[str, Tally], rule: DriftRule) -> Finding:
    """Return whether inputs have values that the reference lacks: categories, ranges, types, or more missing ones."""
    inputs = [each for each in reference.features if not each.is_prediction]
    rows = max(
        (window[each.key].rows + window[each.key].other_kind for each in inputs if each.key in window), default=0
    )
    if rows < min(rule.minimum_rows, 100):
        return Finding(rule=SCHEMA, is_undecided=True, reason=f"{rows:,} rows", numbers={"rows": rows})
    changes = [text for each in inputs for text in _changes(each, window.get(each.key, Tally()))]
    more = f"; and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    return Finding(
        rule=SCHEMA,
        is_over=bool(changes),
        is_clear=not changes,
        reason=f"the schema changed: {'; '.join(changes[:_NAMED])}{more}" if changes else "",
        numbers={"rows": rows, "changes": changes[:_RECORDED]},
    )


def _changes(feature: Feature, tally: Tally) -> Iterable[str]:
    before, known, rows = feature.tally, sum(tally.bins), tally.rows
    if tally.other_kind >= max(_FEWEST, _OTHER_KIND * (rows + tally.other_kind)):
        yield f"{feature.key} has another type"
    if not rows:
        return
    share, was = tally.missing / rows, before.missing / max(1, before.rows)
    if tally.missing >= _FEWEST and share - was >= _MORE_MISSING:
        yield f"{feature.key} is missing in {share:.0%} of the rows ({was:.0%} before)"
    limit, what = (
        (_OUT_OF_RANGE, "out of its range") if feature.kind == NUMBERS else (_NEW_CATEGORY, "of a new category")
    )
    if not feature.is_open and tally.outside >= _FEWEST and tally.outside >= limit * known:
        yield f"{feature.key} is {what} in {tally.outside / known:.0%} of the rows"


def find_worse_quality(reference: Reference, right: int, labelled: int, rule: QualityRule) -> Finding:
    """Return whether fewer predictions are right than on the reference's labelled rows."""
    numbers = {"labelled": labelled, "right": right}
    if not reference.labelled:
        return Finding(rule=QUALITY, is_undecided=True, reason="the evaluation has no labels", numbers=numbers)
    if labelled < rule.minimum_labels:
        return _too_few_labels(rule, numbers)
    share, was = right / labelled, reference.right / reference.labelled
    p = fewer(right, labelled, reference.right, reference.labelled)
    is_over = was - share >= rule.drop and p < rule.alpha
    return Finding(
        rule=QUALITY,
        is_over=is_over,
        is_clear=was - share < _CLEARED * rule.drop,
        reason=f"{share:.1%} of {labelled:,} labelled predictions are right, {was:.1%} at freezing" if is_over else "",
        numbers={**numbers, "share": share, "reference": was, "p": p},
    )


def find_larger_error(reference: Reference, labelled: int, total: float, squares: float, rule: QualityRule) -> Finding:
    """Return whether the mean error of predicted numbers is larger than on the reference's labelled rows.

    :param total: the sum of the absolute errors, and ``squares`` that of their squares
    """
    if labelled < rule.minimum_labels:
        return _too_few_labels(rule, {"labelled": labelled})
    error, was = total / labelled, reference.error or 0.0
    deviation = math.sqrt(max(0.0, squares - labelled * error**2) / (labelled - 1))
    p = larger(error, deviation, labelled, was, reference.deviation, reference.labelled)
    is_over = error >= was * (1 + rule.rise) and p < rule.alpha
    text = f"the mean error of {labelled:,} labelled predictions is {error:.4g}, {was:.4g} at freezing"
    return Finding(
        rule=QUALITY,
        is_over=is_over,
        is_clear=error < was * (1 + _CLEARED * rule.rise),
        reason=text if is_over else "",
        numbers={"labelled": labelled, "error": error, "reference": was, "p": p},
    )


def _too_few_labels(rule: QualityRule, numbers: Mapping[str, int]) -> Finding:
    text = f"{numbers['labelled']:,} labels, {rule.minimum_labels:,} are needed"
    return Finding(rule=QUALITY, is_undecided=True, reason=text, numbers=numbers)


def find_limit(rule: str, value: float, limit: float, text: str) -> Finding:
    """Return whether a version has answered so many requests, or is so old."""
    is_over = value >= limit
    return Finding(
        rule=rule,
        is_over=is_over,
        is_clear=not is_over,
        reason=text if is_over else "",
        numbers={"value": value, "limit": limit},
    )


def by_rule(findings: Sequence[Finding]) -> dict[str, Finding]:
    """Return findings by their rule."""
    return {each.rule: each for each in findings}
