"""The sums of a network under change: how often every pair of terms occurs in them, and a journal that undoes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from lhcc.encodings.adders.network import SumNetwork, Term

Pair = tuple[int, int, int, int]
"""(source, other source, how much further the other is shifted, 1 if their signs differ)"""

_BUCKETS = 4096


def pair_of(a: Term, b: Term) -> Pair:
    if (a[0], a[1]) > (b[0], b[1]):
        a, b = b, a
    return a[0], b[0], b[1] - a[1], a[2] ^ b[2]


@dataclass
class _Count:
    count: int = 0
    place: int = -1
    blocked: bool = False


class Sums:
    """Every change is a term added or removed, so the journal can undo any step."""

    def __init__(self, network: SumNetwork) -> None:
        inputs = network.inputs
        nodes = inputs + len(network.sums)
        self.network, self.inputs, self.first_inner, self.adders = network, inputs, inputs + network.outputs, 0
        self.sums: list[list[Term]] = [[] for _ in range(nodes)]
        self.users: list[list[int]] = [[] for _ in range(nodes)]
        self.alive = [v >= inputs for v in range(nodes)]
        self.free: list[int] = []
        self.queue: list[int] = []
        self.queued: set[int] = set()
        self.pairs: dict[Pair, _Count] = defaultdict(_Count)
        self.buckets: dict[int, list[Pair]] = defaultdict(list)
        self.top = 0
        self.sharing = False  # while sharing, a pair that did not pay stays blocked: so sharing ends
        self.journal: list[tuple[str, int, Term]] = []
        for k, terms in enumerate(network.sums):
            for term in terms:
                self.put(inputs + k, term)
        for v in range(self.first_inner, nodes):
            self.enqueue(v)

    # --- how often every pair of terms occurs

    def leave_bucket(self, entry: _Count) -> None:
        if entry.place >= 0:
            bucket = self.buckets[min(entry.count, _BUCKETS - 1)]
            last = bucket.pop()
            if entry.place < len(bucket):
                bucket[entry.place] = last
                self.pairs[last].place = entry.place
            entry.place = -1

    def count_pair(self, pair: Pair, by: int) -> None:
        entry = self.pairs[pair]
        self.leave_bucket(entry)
        entry.count += by
        if not self.sharing and (by > 0 or entry.count < 2):
            entry.blocked = False
        if entry.count >= 2 and not entry.blocked:
            index = min(entry.count, _BUCKETS - 1)
            entry.place = len(self.buckets[index])
            self.buckets[index].append(pair)
            self.top = max(self.top, index)
        if entry.count == 0 and not entry.blocked:
            del self.pairs[pair]

    # --- the two changes that everything is made of

    def put(self, v: int, term: Term) -> None:
        terms = self.sums[v]
        for other in terms:
            self.count_pair(pair_of(other, term), 1)
        self.adders += len(terms) > 0
        terms.append(term)
        self.users[term[0]].append(v)

    def take(self, v: int, i: int) -> None:
        terms = self.sums[v]
        term = terms[i]
        terms[i] = terms[-1]
        terms.pop()
        self.adders -= len(terms) > 0
        for other in terms:
            self.count_pair(pair_of(other, term), -1)
        users = self.users[term[0]]
        k = len(users) - 1
        while users[k] != v:
            k -= 1
        users[k] = users[-1]
        users.pop()

    def enqueue(self, v: int) -> None:
        if v >= self.first_inner and v not in self.queued:
            self.queued.add(v)
            self.queue.append(v)

    def drop(self, v: int, i: int) -> None:
        term = self.sums[v][i]
        self.journal.append(("removed", v, term))
        self.take(v, i)
        self.enqueue(term[0])
        if len(self.sums[v]) <= 1:
            self.enqueue(v)

    def add(self, v: int, term: Term) -> None:
        """Adds a term; equal terms become one of twice the weight, opposite ones vanish."""
        src, shift, neg = term
        while True:
            i = next((i for i, t in enumerate(self.sums[v]) if t[0] == src and t[1] == shift), -1)
            if i < 0:
                break
            same = self.sums[v][i][2] == neg
            self.drop(v, i)
            if not same:
                return
            shift += 1
        self.journal.append(("added", v, (src, shift, neg)))
        self.put(v, (src, shift, neg))

    def born(self) -> int:
        if self.free:
            v = self.free.pop()
        else:
            v = len(self.sums)
            self.sums.append([])
            self.users.append([])
            self.alive.append(False)
        self.alive[v] = True
        self.journal.append(("born", v, (0, 0, 0)))
        return v

    def undo(self, mark: int) -> None:
        while len(self.journal) > mark:
            kind, v, term = self.journal.pop()
            if kind == "added":
                i = len(self.sums[v]) - 1
                while self.sums[v][i][:2] != term[:2]:
                    i -= 1
                self.take(v, i)
            elif kind == "removed":
                self.put(v, term)
            elif kind == "born":
                self.alive[v] = False
                self.free.append(v)
            else:
                self.alive[v] = True
                self.free.pop()

    def dissolve(self, v: int) -> None:
        """Replaces node v by its terms wherever it is read, and removes it."""
        while self.users[v]:
            e = self.users[v][-1]
            i = len(self.sums[e]) - 1
            while self.sums[e][i][0] != v:
                i -= 1
            _, shift, neg = self.sums[e][i]
            self.drop(e, i)
            for src, s, n in self.sums[v]:
                self.add(e, (src, s + shift, n ^ neg))
        while self.sums[v]:
            self.drop(v, len(self.sums[v]) - 1)
        self.alive[v] = False
        self.free.append(v)
        self.journal.append(("died", v, (0, 0, 0)))

    def settle(self) -> None:
        """A node that is read at most once, or has at most one term, saves nothing."""
        while self.queue:
            v = self.queue.pop()
            self.queued.discard(v)
            if self.alive[v] and (len(self.users[v]) <= 1 or len(self.sums[v]) <= 1):
                self.dissolve(v)

    def result(self) -> SumNetwork:
        live = [v for v in range(self.inputs, len(self.sums)) if self.alive[v]]
        name = {v: v for v in range(self.inputs)} | {v: self.inputs + k for k, v in enumerate(live)}
        sums = [[(name[src], shift, neg) for src, shift, neg in self.sums[v]] for v in live]
        return SumNetwork(self.inputs, self.network.outputs, sums)
