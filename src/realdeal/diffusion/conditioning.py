"""What the LDM is told about a volume: named covariates.

Brain LDM (Pinaya 2022) concatenates four continuous covariates to the latents and attends to them
as one context token; the conditional MRI LDM (arXiv 2502.18620) attends to learned embeddings of
two categories. Both are choices of `Conditioning`.
"""

import math

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


class Conditioning(nn.Module):
    """Turns encoded covariates into planes beside the latents, context tokens, or both.

    Planes: continuous values as they are, categories one-hot; `concatenated` is their number.
    Context (N, tokens, `context_width`): one token of all continuous values, as they are if they
    are `context_width` many (Pinaya's hybrid), else mapped linearly; one learned embedding for
    each category.
    """

    def __init__(self, covariates, enter, context_width=None):
        super().__init__()
        if enter not in ENTER:
            raise ValueError(f"unknown way to enter {enter!r}: use one of {', '.join(ENTER)}")
        self.continuous = [i for i, c in enumerate(covariates) if "levels" not in c]
        self.categories = [(i, len(c["levels"])) for i, c in enumerate(covariates) if "levels" in c]
        number = len(self.continuous)
        self.planes = enter != "cross_attention"
        self.concatenated = (number + sum(n for _, n in self.categories)) if self.planes else 0
        self.context_width = (context_width or number) if enter != "concatenate" else 0
        self.to_token, self.embeddings = None, nn.ModuleList()
        if self.context_width:
            if number and number != self.context_width:
                self.to_token = nn.Linear(number, self.context_width)
            self.embeddings.extend(
                nn.Embedding(levels, self.context_width) for _, levels in self.categories
            )

    def forward(self, covariates):
        """Encoded covariates (N, K) to (planes (N, P) or None, context (N, T, W) or None)."""
        continuous = covariates[:, self.continuous]
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
        return planes, context
