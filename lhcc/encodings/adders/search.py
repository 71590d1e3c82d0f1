"""Ruin and recreate over sum networks: share the most frequent pair of terms; then dissolve a few nodes and share anew.

This is the readable reference; `search.c` is the same text in C, and the tests hold the two to identical networks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from lhcc.encodings.adders.network import SumNetwork, Term

Pair = tuple[int, int, int, int]
"""(source, other source, how much further the other is shifted, 1 if their signs differ)"""

_MASK = (1 << 64) - 1
_BUCKETS = 4096


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


def pair_of(a: Term, b: Term) -> Pair:
    if (a[0], a[1]) > (b[0], b[1]):
        a, b = b, a
    return a[0], b[0], b[1] - a[1], a[2] ^ b[2]


@dataclass
class _Count:
    count: int = 0
    place: int = -1
    blocked: bool = False


@dataclass
class Search:
    """The state of one search; every change is a term added or removed, so a journal can undo any step."""

    network: SumNetwork
    options: Options
    sums: list[list[Term]] = field(default_factory=list)
    users: list[list[int]] = field(default_factory=list)
    alive: list[bool] = field(default_factory=list)
    adders: int = 0

    def __post_init__(self) -> None:
        net, inputs = self.network, self.network.inputs
        nodes = inputs + len(net.sums)
        self.inputs, self.first_inner, self.random = inputs, inputs + net.outputs, self.options.seed & _MASK
        self.sums = [[] for _ in range(nodes)]
        self.users = [[] for _ in range(nodes)]
        self.alive = [v >= inputs for v in range(nodes)]
        self.free: list[int] = []
        self.queue: list[int] = []
        self.queued: set[int] = set()
        self.pairs: dict[Pair, _Count] = defaultdict(_Count)
        self.buckets: dict[int, list[Pair]] = defaultdict(list)
        self.top = 0
        self.sharing = False  # while sharing, a pair that did not pay stays blocked: so sharing ends
        self.journal: list[tuple[str, int, Term]] = []
        for k, terms in enumerate(net.sums):
            for term in terms:
                self.put(inputs + k, term)
        for v in range(self.first_inner, nodes):
            self.enqueue(v)

    def draw(self, n: int) -> int:
        x = self.random
        x ^= (x << 13) & _MASK
        x ^= x >> 7
        x ^= (x << 17) & _MASK
        self.random = x
        return int((x >> 33) % n)

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

    def result(self) -> SumNetwork:
        live = [v for v in range(self.inputs, len(self.sums)) if self.alive[v]]
        name = {v: v for v in range(self.inputs)} | {v: self.inputs + k for k, v in enumerate(live)}
        sums = [[(name[src], shift, neg) for src, shift, neg in self.sums[v]] for v in live]
        return SumNetwork(self.inputs, self.network.outputs, sums)

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
