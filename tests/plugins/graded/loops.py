"""Each graded loss as its formula says, by explicit loops over Python numbers."""

from __future__ import annotations

from math import exp, log, sqrt

ROOT2 = sqrt(2.0)


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x > -700 else 0.0


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


class Loops:
    """Formulas over similarities ``s``, distances ``d`` (metres) weights ``w`` and ``near``, B x B."""

    def __init__(self, s, d, w, near):
        self.s, self.d, self.w, self.near = s, d, w, near
        self.D = [[sqrt(max(0.0, 2 - 2 * value)) for value in row] for row in s]
        self.images = range(len(s))

    def others(self, i):
        return [j for j in self.images if j != i]

    def pairs(self):
        return [(i, j) for i in self.images for j in self.others(i)]

    def rank_n_contrast(self, z, limit=float("inf")):
        rows = []
        for i in self.images:
            terms = []
            for j in self.others(i):
                if self.d[i][j] < limit:
                    farther = [
                        k
                        for k in self.others(i)
                        if min(self.d[i][k], limit) >= min(self.d[i][j], limit)
                    ]
                    terms.append(log(sum(exp(z(i, k)) for k in farther)) - z(i, j))
            if terms:
                rows.append(mean(terms))
        return mean(rows)

    def soft_supcon(self, variant, t):
        rows = []
        for i in self.images:
            total = sum(self.w[i][j] for j in self.others(i))
            if total < 1e-6:
                continue
            loss = 0.0
            for j in self.others(i):
                own = self.s[i][j] / t
                if variant == "y-aware":
                    below = sum(exp(self.s[i][k] / t) for k in self.others(i))
                elif variant == "threshold":
                    below = exp(own) + sum(
                        exp(self.s[i][k] / t)
                        for k in self.others(i)
                        if self.w[i][k] < self.w[i][j]
                    )
                else:
                    below = sum(
                        exp(self.s[i][k] / t * (1 - self.w[i][k]))
                        for k in self.others(i)
                        if k != j
                    ) or exp(own)
                loss += self.w[i][j] / total * (log(below) - own)
            rows.append(loss)
        return mean(rows)

    def rince(self, bands, temperatures):
        rows = []
        for i in self.images:
            counted, lower = [], 0.0
            for upper, t in zip(bands, temperatures, strict=True):
                inside = [j for j in self.others(i) if lower <= self.d[i][j] < upper]
                beyond = sum(
                    exp(self.s[i][n] / t) for n in self.others(i) if self.d[i][n] >= upper
                )
                lower = upper
                if inside and beyond:
                    own = [exp(self.s[i][p] / t) for p in inside]
                    counted.append(mean(log(1 + beyond / e) for e in own))
            if counted:
                rows.append(sum(counted))
        return mean(rows)

    def cosent(self, scale):
        pairs = [(i, j) for i, j in self.pairs() if i < j]
        total = sum(
            exp(scale * (self.s[q[0]][q[1]] - self.s[p[0]][p[1]]))
            for p in pairs
            for q in pairs
            if self.d[p[0]][p[1]] < self.d[q[0]][q[1]]
        )
        return log(1 + total)

    def average_precision(self, w, t):
        rows = []
        for i in self.images:
            total = sum(w[i][j] for j in self.others(i))
            if total < 1e-6:
                continue
            gained = 0.0
            for j in self.others(i):
                u = {
                    k: sigmoid((self.s[i][k] - self.s[i][j]) / t)
                    for k in self.others(i)
                    if k != j
                }
                relevant = w[i][j] + sum(min(w[i][j], w[i][k]) * u[k] for k in u)
                gained += relevant / (1 + sum(u.values()))
            rows.append(1 - gained / total)
        return mean(rows)

    def recall_at_k(self, radius, ks, t1, t2):
        rows = []
        for i in self.images:
            near = [p for p in self.others(i) if self.d[i][p] < radius]
            if not near:
                continue
            recalls = []
            for number in ks:
                found = 0.0
                for p in near:
                    before = sum(
                        sigmoid((self.s[i][k] - self.s[i][p]) / t2)
                        for k in self.others(i)
                        if k != p
                    )
                    found += sigmoid((number - 1 - before) / t1)
                recalls.append(min(1.0, found / min(number, len(near))))
            rows.append(1 - mean(recalls))
        return mean(rows)

    def similarity_regression(self):
        return mean((self.s[i][j] - self.w[i][j]) ** 2 for i, j in self.pairs())

    def adaptive_margin(self, margin):
        return mean(
            self.w[i][j] * self.D[i][j] ** 2 / 2
            + (1 - self.w[i][j]) * max(0, margin * (1 - self.w[i][j]) - self.D[i][j]) ** 2 / 2
            for i, j in self.pairs()
        )

    def stress(self, reach):
        return mean(
            (self.D[i][j] - ROOT2 * min(self.d[i][j] / reach, 1)) ** 2 for i, j in self.pairs()
        )

    def distance_triplet(self, margin, reach):
        return mean(
            max(
                0.0,
                margin * min(1, (self.d[i][n] - self.d[i][p]) / reach)
                + self.D[i][p] ** 2
                - self.D[i][n] ** 2,
            )
            for i in self.images
            for p in self.others(i)
            if self.d[i][p] < reach
            for n in self.others(i)
            if self.d[i][n] > self.d[i][p]
        )
