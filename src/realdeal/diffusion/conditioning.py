"""What the LDM is told about a volume: named covariates.

Brain LDM (Pinaya 2022) concatenates four continuous covariates to the latents and attends to them
as one context token; the conditional MRI LDM (arXiv 2502.18620) attends to learned embeddings of
two categories. Both are choices of `Conditioning`.
"""

import math
from itertools import combinations

import torch
from torch import nn

from realdeal.errors import InputError

ENTER = ("concatenate", "cross_attention", "both")


def encode(rows, covariates):
    """Covariates of N volumes as a float32 tensor (N, K), in the order of `covariates`.

    rows: dicts with a value for each name. covariates: the config's list; continuous ones have
    `range` [low, high], which becomes [0, 1] (values outside are extrapolation and allowed), and
    categorical ones `levels`, which become their index. InputError for a missing or unknown value.
    """
    encoded = []
    for row in rows:
        values = []
        for covariate in covariates:
            name, value = covariate["name"], row.get(covariate["name"])
            who = row.get("participant_id", "a volume")
            if value is None or (isinstance(value, float) and math.isnan(value)):
                raise InputError(f"{who}: has no {name}; add it to the participants or drop it")
            if "levels" in covariate:
                levels = [str(level) for level in covariate["levels"]]
                if str(value) not in levels:
                    raise InputError(
                        f"{who}: {name} {value!r} is none of {', '.join(levels)}; "
                        "mend it, or add the level to ldm.conditioning and train again"
                    )
                values.append(float(levels.index(str(value))))
                continue
            low, high = covariate["range"]
            try:
                values.append((float(value) - low) / (high - low))
            except ValueError:
                raise InputError(f"{who}: {name} {value!r} is not a number") from None
        encoded.append(values)
    return torch.tensor(encoded, dtype=torch.float32)


def trained_range(rows, covariates):
    """What was trained on, of the `rows` of N volumes: ranges {name: [least, greatest]} of the
    continuous covariates, and the combinations [[level, ...], ...] of the categories that occur.
    """
    continuous = [c["name"] for c in covariates if "levels" not in c]
    categories = [c["name"] for c in covariates if "levels" in c]
    values = {name: [float(row[name]) for row in rows] for name in continuous}
    return {
        "ranges": {name: [min(v), max(v)] for name, v in values.items()},
        "categories": categories,
        "combinations": sorted(
            [list(c) for c in {tuple(str(r[n]) for n in categories) for r in rows}]
        ),
    }


def extrapolated(row, trained):
    """The names of the covariates of `row` that lie outside what was trained on.

    A combination of levels that never occurred is one of them: "pathology x modality". `trained`
    is what `trained_range` gave.
    """
    names = [
        name
        for name, (low, high) in trained["ranges"].items()
        if not low <= float(row[name]) <= high
    ]
    if [str(row[name]) for name in trained["categories"]] not in trained["combinations"]:
        names.append(" x ".join(trained["categories"]))
    return names


class Conditioning(nn.Module):
    """Turns encoded covariates into planes beside the latents, context tokens, or both.

    Planes: continuous values as they are, categories one-hot; `concatenated` is their number.
    Context (N, tokens, `context_width`): one token of all continuous values, as they are if they
    are `context_width` many (Pinaya's hybrid), else mapped linearly; one learned embedding for
    each category. With `standardise` continuous values first get zero mean and unit variance over
    the training set (`set_statistics`), which tells a small network more. `dropout` is the share
    of the training samples that are told nothing (Ho and Salimans 2022), which guidance needs:
    their planes are 0, one more plane says so, and their tokens are learned ones.
    """

    def __init__(self, covariates, enter, context_width=None, dropout=0, standardise=False):
        super().__init__()
        if enter not in ENTER:
            raise ValueError(f"unknown way to enter {enter!r}: use one of {', '.join(ENTER)}")
        self.dropout = dropout
        self.continuous = [i for i, c in enumerate(covariates) if "levels" not in c]
        self.categories = [(i, len(c["levels"])) for i, c in enumerate(covariates) if "levels" in c]
        number = len(self.continuous)
        statistics = torch.tensor([[0.0], [1.0]]).repeat(1, number) if standardise else None
        self.register_buffer("statistics", statistics)
        self.planes = enter != "cross_attention"
        planes = number + sum(n for _, n in self.categories) + bool(dropout)
        self.concatenated = planes if self.planes else 0
        self.context_width = (context_width or number) if enter != "concatenate" else 0
        self.to_token, self.embeddings, self.nothing = None, nn.ModuleList(), None
        if self.context_width:
            if number and number != self.context_width:
                self.to_token = nn.Linear(number, self.context_width)
            self.embeddings.extend(
                nn.Embedding(levels, self.context_width) for _, levels in self.categories
            )
            if dropout:
                tokens = bool(number) + len(self.categories)
                self.nothing = nn.Parameter(torch.zeros(tokens, self.context_width))

    def set_statistics(self, covariates):
        """Take mean and standard deviation from the encoded covariates (N, K) of a training set."""
        if self.statistics is not None:
            values = covariates[:, self.continuous]
            self.statistics.copy_(torch.stack([values.mean(0), values.std(0).clamp(min=1e-3)]))

    @property
    def effects(self):
        """Number of `features` that are numbers or levels; the others are pairs of levels."""
        return len(self.continuous) + sum(levels for _, levels in self.categories)

    @property
    def width(self):
        """Number of `features`."""
        return self.effects + sum(a * b for (_, a), (_, b) in combinations(self.categories, 2))

    def features(self, covariates):
        """What a linear model is told (N, `width`): numbers, levels and pairs of levels as 0, 1."""
        numbers = covariates[:, self.continuous]
        one_hot = [
            nn.functional.one_hot(covariates[:, i].long(), levels).to(covariates)
            for i, levels in self.categories
        ]
        pairs = [(a[:, :, None] * b[:, None]).flatten(1) for a, b in combinations(one_hot, 2)]
        return torch.cat([numbers, *one_hot, *pairs], 1)

    def group(self, covariates, told=None):
        """The combination of levels (N,) of encoded covariates (N, K), from 1; 0: told nothing."""
        place = torch.zeros(len(covariates), dtype=torch.long, device=covariates.device)
        for i, levels in self.categories:
            place = place * levels + covariates[:, i].long()
        place = place + 1
        return place if told is None else torch.where(told, place, 0)

    def forward(self, covariates, told=None):
        """Encoded covariates (N, K) to (planes (N, P) or None, context (N, T, W) or None).

        `told` (N,) bool says which samples are told theirs; None, all.
        """
        continuous = covariates[:, self.continuous]
        if self.statistics is not None:
            continuous = (continuous - self.statistics[0]) / self.statistics[1]
        indices = [covariates[:, i].long() for i, _ in self.categories]
        planes = context = None
        if self.planes:
            one_hot = [
                nn.functional.one_hot(index, levels).to(covariates.dtype)
                for index, (_, levels) in zip(indices, self.categories, strict=True)
            ]
            planes = torch.cat([continuous, *one_hot], 1)
        if self.context_width:
            tokens = [e(i) for e, i in zip(self.embeddings, indices, strict=True)]
            if self.continuous:
                tokens.insert(0, self.to_token(continuous) if self.to_token else continuous)
            context = torch.stack(tokens, 1)
        if self.dropout:
            if told is None:
                told = torch.ones(len(covariates), dtype=torch.bool, device=covariates.device)
            if planes is not None:
                planes = torch.cat([planes * told[:, None], (~told[:, None]).to(planes)], 1)
            if context is not None:
                context = torch.where(told[:, None, None], context, self.nothing)
        return planes, context
