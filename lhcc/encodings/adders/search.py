"""Ruin and recreate over sum networks: share the most frequent pair of terms; then dissolve a few nodes and share anew.

This, on top of `sums`, is the readable reference; `search.c` is the same text in C, and the tests hold the two to
identical networks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from lhcc.encodings.adders.network import SumNetwork, Term
from lhcc.encodings.adders.sums import Pair, Sums, pair_of

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Options:
    """How to search: `cap` limits depth (0: free), `noise` and `accept` are chances in 1/65536."""

    rounds: int
    seconds: float = 0.0
    seed: int = 1
    cap: int = 0
    ruin_size: int = 4
    respelling: int = 4
    noise: int = 6500
    accept: tuple[int, ...] = (65536,)


class Search(Sums):
    """One search: its random numbers, the depth of its nodes, and the steps that it is made of."""

    def __init__(self, network: SumNetwork, options: Options) -> None:
        super().__init__(network)
        self.options, self.random = options, options.seed & _MASK

    def draw(self, n: int) -> int:
        x = self.random
        x ^= (x << 13) & _MASK
        x ^= x >> 7
        x ^= (x << 17) & _MASK
        self.random = x
        return int((x >> 33) % n)

    # --- depth

    def measure(self) -> bool:
        """Levels of all nodes, and the latest level each may move to alone; returns whether the cap holds."""
        cap, nodes = self.options.cap, len(self.sums)
        self.level, self.late, self.load = [0] * nodes, [cap] * nodes, [0] * nodes
        seen = [False] * nodes
        order: list[int] = []

        def visit(v: int) -> None:
            if seen[v]:
                return
            seen[v] = True
            if v >= self.inputs:
                for src, _, _ in self.sums[v]:
                    visit(src)
                    self.load[v] += 1 << self.level[src]
                self.level[v] = max(self.load[v] - 1, 0).bit_length()
                order.append(v)

        for v in range(self.inputs, nodes):
            if self.alive[v]:
                visit(v)
        fits = True
        for v in reversed(order):
            fits = fits and self.level[v] <= cap
            self.late[v] = max(self.late[v], self.level[v])
            for u, _, _ in self.sums[v]:
                slack = (1 << self.late[v]) - self.load[v] + (1 << self.level[u])
                self.late[u] = min(self.late[u], slack.bit_length() - 1)
        return fits

    # --- sharing

    def share(self, pair: Pair) -> None:
        a, b, apart, differ = pair
        users = self.users[a] if len(self.users[a]) <= len(self.users[b]) else self.users[b]
        readers = list(users)
        v = next((e for e in readers if len(self.sums[e]) == 2 and pair_of(*self.sums[e]) == pair), -1)
        base_shift, base_neg = 0, 0
        if v < 0:
            v = self.born()
            self.add(v, (a, 0, 0))
            self.add(v, (b, apart, differ))
        else:
            first = min(self.sums[v], key=lambda t: t[:2])
            base_shift, base_neg = -first[1], first[2]
        cap = self.options.cap
        if cap:
            self.measure()
        for e in readers:
            if e == v:
                continue
            i = 0
            while i < len(self.sums[e]):
                i += 1 if not self._replace(e, i, pair, (v, base_shift, base_neg), cap) else -i
        self.enqueue(v)

    def _replace(self, e: int, i: int, pair: Pair, by: Term, cap: int) -> bool:
        """Replaces the occurrence of the pair that starts at term i of sum e, if there is one and the depth allows."""
        a, b, apart, differ = pair
        terms = self.sums[e]
        src, shift, neg = terms[i]
        if src != a:
            return False
        wanted = (b, shift + apart, neg ^ differ)
        j = next((j for j, t in enumerate(terms) if j != i and t == wanted), -1)
        if j < 0:
            return False
        v, load = by[0], 0
        if cap:
            load = self.load[e] - (1 << self.level[a]) - (1 << self.level[b]) + (1 << self.level[v])
            if load > 1 << self.late[e]:
                return False
        mark = len(self.journal)
        self.drop(e, max(i, j))
        self.drop(e, min(i, j))
        self.add(e, (v, by[1] + shift, by[2] ^ neg))
        if cap and load > 1 << self.level[e]:
            if not self.measure():
                self.undo(mark)
                self.measure()
                return False
        elif cap:
            self.load[e] = sum(1 << self.level[t[0]] for t in self.sums[e])
        return True

    def share_all(self, noise: int) -> None:
        """Shares the most frequent pair, again and again; `noise` / 65536 is the chance to look one bucket lower."""
        self.sharing = True
        while True:
            while self.top >= 2 and not self.buckets[self.top]:
                self.top -= 1
            if self.top < 2:
                break
            c = self.top
            while noise and c > 2 and self.draw(65536) < noise:
                lower = next((k for k in range(c - 1, 1, -1) if self.buckets[k]), 0)
                if not lower:
                    break
                c = lower
            pair = self.buckets[c][self.draw(len(self.buckets[c]))]
            self.share(pair)
            self.settle()
            entry = self.pairs.get(pair)
            if entry is not None and entry.count >= 2:
                self.leave_bucket(entry)
                entry.blocked = True
        self.sharing = False

    # --- ruin and recreate

    def neighbour(self, v: int) -> int:
        """A node near v: one of its terms, one of its readers, or a term or reader of those."""
        for _ in range(8):
            w = -1
            if self.sums[v] and self.draw(2):
                w = self.sums[v][self.draw(len(self.sums[v]))][0]
                if not self.draw(2) or w < self.inputs:
                    w = self.users[w][self.draw(len(self.users[w]))]
            elif self.users[v]:
                w = self.users[v][self.draw(len(self.users[v]))]
                if self.draw(4):
                    w = self.sums[w][self.draw(len(self.sums[w]))][0]
            if w >= self.first_inner and w != v:
                return w
        return -1

    def respell(self, e: int) -> None:
        """2^k + 2^(k+1) is also 2^(k+2) - 2^k: shows the recreation the other spelling of one weight."""
        terms = self.sums[e]
        if len(terms) < 2:
            return
        i = self.draw(len(terms))
        src, shift, neg = terms[i]
        j = next((j for j, t in enumerate(terms) if t[0] == src and t[1] - shift == (1 if t[2] == neg else 2)), -1)
        if j < 0:
            return
        other = terms[j][2]
        same = int(other == neg)
        self.drop(e, max(i, j))
        self.drop(e, min(i, j))
        self.add(e, (src, shift, other ^ same))
        self.add(e, (src, shift + (2 if same else 1), other))

    def ruin(self, v: int, size: int) -> None:
        respelling = self.options.respelling
        for _ in range(size):
            after = self.neighbour(v)
            if respelling and self.draw(respelling) == 0 and self.users[v]:
                self.respell(self.users[v][self.draw(len(self.users[v]))])
            self.dissolve(v)
            self.settle()
            if after < 0 or not self.alive[after]:
                return
            v = after

    def run(self) -> SumNetwork:
        """Shares greedily, then improves for the given rounds or seconds; the best network seen."""
        options, end = self.options, time.thread_time() + self.options.seconds
        self.settle()
        self.share_all(0)
        best, current, lowest = self.result(), self.adders, self.adders
        for count in range(options.rounds):
            if options.seconds > 0 and count % 16 == 0 and time.thread_time() > end:
                break
            self.journal.clear()
            v = -1
            for _ in range(256):
                w = self.inputs + self.draw(len(self.sums) - self.inputs)
                if self.alive[w] and w >= self.first_inner:
                    v = w
                    break
            if v < 0:
                break
            self.ruin(v, 1 + self.draw(options.ruin_size))
            self.share_all(options.noise)
            self.settle()
            worse = self.adders - current
            if worse <= 0 or (worse < len(options.accept) and self.draw(65536) < options.accept[worse]):
                current = self.adders
                if current < lowest:
                    best, lowest = self.result(), current
            else:
                self.undo(0)
        return best
