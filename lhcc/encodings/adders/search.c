/* The search of search.py, statement for statement, in C: the same network, options and seed give the same result.
 * A network is a set of signed, shifted sums; sharing means giving a pair of terms that occurs often a node of its own. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { int32_t src, shift, neg; } Term;
typedef struct { Term *at; int n, room; } Terms;
typedef struct { int32_t *at; int n, room; } Ids;
typedef struct { uint64_t key; int32_t count, place, blocked; } Slot;      /* place: index in its bucket, -1 if in none */
typedef struct { int32_t kind, node; Term term; } Change;                   /* one journal entry, undone in reverse */
enum { ADDED, REMOVED, BORN, DIED };
enum { BUCKETS = 4096 };

typedef struct {
    int n_in, n_node, room;
    Terms *sum;                 /* sum[v]: the terms of node v (empty for inputs) */
    Ids *users;                 /* users[v]: one entry per term that reads v */
    char *output, *alive, *queued;
    Ids free_ids, queue, bucket[BUCKETS], order, scratch;
    int top;                    /* no bucket above this one holds a pair */
    Slot *slot; uint64_t mask, used;
    Change *journal; int n_journal, room_journal;
    uint64_t random;
    int64_t cost;               /* additions: every sum of n terms costs n - 1 */
    int cap;                    /* depth cap, 0: none */
    int32_t *level, *late, *seen, stamp; uint64_t *load;
    char broken, sharing;       /* while sharing, a pair that did not pay stays blocked: so sharing ends */
} State;

static void push(Ids *ids, int32_t v) {
    if (ids->n == ids->room) { ids->room = ids->room ? 2 * ids->room : 8; ids->at = realloc(ids->at, ids->room * sizeof *ids->at); }
    ids->at[ids->n++] = v;
}

static uint32_t draw(State *s, uint32_t n) {
    s->random ^= s->random << 13; s->random ^= s->random >> 7; s->random ^= s->random << 17;
    return (uint32_t)((s->random >> 33) % n);
}

/* --- how often every pair of terms occurs ------------------------------------------------------------------------ */

static uint64_t pair_key(Term a, Term b) {
    if (a.src > b.src || (a.src == b.src && a.shift > b.shift)) { Term t = a; a = b; b = t; }
    return ((uint64_t)(a.src + 1) << 40) | ((uint64_t)b.src << 16) | ((uint64_t)(b.shift - a.shift + 512) << 1)
           | (uint64_t)(a.neg ^ b.neg);
}

static int32_t find(State *s, uint64_t key) {
    uint64_t i = key * 0x9E3779B97F4A7C15ull;
    i = (i ^ (i >> 29)) & s->mask;
    while (s->slot[i].key && s->slot[i].key != key) i = (i + 1) & s->mask;
    if (!s->slot[i].key) { s->slot[i] = (Slot){key, 0, -1, 0}; s->used++; }
    return (int32_t)i;
}

static int bucket_of(int count) { return count < BUCKETS ? count : BUCKETS - 1; }

static void leave_bucket(State *s, int32_t i) {
    Slot *p = &s->slot[i];
    if (p->place < 0) return;
    Ids *b = &s->bucket[bucket_of(p->count)];
    int32_t last = b->at[--b->n];
    b->at[p->place] = last; s->slot[last].place = p->place; p->place = -1;
}

static void enter_bucket(State *s, int32_t i) {
    Slot *p = &s->slot[i];
    int c = bucket_of(p->count);
    p->place = s->bucket[c].n; push(&s->bucket[c], i);
    if (c > s->top) s->top = c;
}

static void count_pair(State *s, uint64_t key, int by) {
    int32_t i = find(s, key);
    leave_bucket(s, i);
    s->slot[i].count += by;
    if (!s->sharing && (by > 0 || s->slot[i].count < 2)) s->slot[i].blocked = 0;
    if (s->slot[i].count >= 2 && !s->slot[i].blocked) enter_bucket(s, i);
}

/* Shrinks or grows the table to fit; the order inside the buckets, which the random choices see, is kept. */
static void resize_table(State *s, int extra) {
    if (s->slot && (s->used + extra) * 2 <= s->mask) return;
    uint64_t live = 0, size = 4096, old = s->slot ? s->mask + 1 : 0;
    Slot *before = s->slot;
    for (uint64_t i = 0; i < old; i++) live += before[i].count > 0 || before[i].blocked;
    while (size < live * 6 || size < (live + extra) * 3) size *= 2;
    s->slot = calloc(size, sizeof(Slot)); s->mask = size - 1; s->used = 0;
    for (uint64_t i = 0; i < old; i++) if (before[i].count > 0 || before[i].blocked) {
        int32_t j = find(s, before[i].key);
        s->slot[j] = before[i];
        if (before[i].place >= 0) s->bucket[bucket_of(before[i].count)].at[before[i].place] = j;
    }
    free(before);
}

/* --- the two changes that everything is made of ------------------------------------------------------------------ */

static void note(State *s, int kind, int v, Term t) {
    if (s->n_journal == s->room_journal) {
        s->room_journal = s->room_journal ? 2 * s->room_journal : 1024;
        s->journal = realloc(s->journal, s->room_journal * sizeof(Change));
    }
    s->journal[s->n_journal++] = (Change){kind, v, t};
}

static void enqueue(State *s, int v) {
    if (v < s->n_in || s->output[v] || s->queued[v]) return;
    s->queued[v] = 1; push(&s->queue, v);
}

static void put(State *s, int v, Term t) {
    Terms *x = &s->sum[v];
    resize_table(s, x->n);
    for (int i = 0; i < x->n; i++) count_pair(s, pair_key(x->at[i], t), 1);
    if (x->n == x->room) { x->room = x->room ? 2 * x->room : 4; x->at = realloc(x->at, x->room * sizeof(Term)); }
    s->cost += x->n > 0;
    x->at[x->n++] = t;
    push(&s->users[t.src], v);
}

static void take(State *s, int v, int i) {
    Terms *x = &s->sum[v];
    Term t = x->at[i];
    x->at[i] = x->at[--x->n];
    s->cost -= x->n > 0;
    for (int j = 0; j < x->n; j++) count_pair(s, pair_key(x->at[j], t), -1);
    Ids *u = &s->users[t.src];
    int k = u->n - 1;
    while (u->at[k] != v) k--;
    u->at[k] = u->at[--u->n];
}

static void drop(State *s, int v, int i) {
    Term t = s->sum[v].at[i];
    note(s, REMOVED, v, t); take(s, v, i); enqueue(s, t.src);
    if (s->sum[v].n <= 1) enqueue(s, v);
}

/* Adds a term; equal terms become one of twice the weight, opposite ones vanish. */
static void add(State *s, int v, Term t) {
    for (;;) {
        Terms *x = &s->sum[v];
        int i = 0;
        while (i < x->n && (x->at[i].src != t.src || x->at[i].shift != t.shift)) i++;
        if (i == x->n) break;
        int same = x->at[i].neg == t.neg;
        drop(s, v, i);
        if (!same) return;
        t.shift++;
    }
    note(s, ADDED, v, t); put(s, v, t);
}

static int born(State *s) {
    int v = s->free_ids.n ? s->free_ids.at[--s->free_ids.n] : s->n_node++;
    if (v >= s->room) { s->broken = 1; v = s->room - 1; }
    s->alive[v] = 1; note(s, BORN, v, (Term){0, 0, 0});
    return v;
}

static void undo(State *s, int mark) {
    while (s->n_journal > mark) {
        Change c = s->journal[--s->n_journal];
        Terms *x = &s->sum[c.node];
        if (c.kind == ADDED) {
            int i = x->n - 1;
            while (x->at[i].src != c.term.src || x->at[i].shift != c.term.shift) i--;
            take(s, c.node, i);
        } else if (c.kind == REMOVED) put(s, c.node, c.term);
        else if (c.kind == BORN) { s->alive[c.node] = 0; push(&s->free_ids, c.node); }
        else { s->alive[c.node] = 1; s->free_ids.n--; }
    }
}

/* Replaces node v by its terms wherever it is read, and removes it. */
static void dissolve(State *s, int v) {
    while (s->users[v].n) {
        int e = s->users[v].at[s->users[v].n - 1], i = s->sum[e].n - 1;
        while (s->sum[e].at[i].src != v) i--;
        Term t = s->sum[e].at[i];
        drop(s, e, i);
        for (int k = 0; k < s->sum[v].n; k++) {
            Term p = s->sum[v].at[k];
            add(s, e, (Term){p.src, p.shift + t.shift, p.neg ^ t.neg});
        }
    }
    while (s->sum[v].n) drop(s, v, s->sum[v].n - 1);
    s->alive[v] = 0; push(&s->free_ids, v); note(s, DIED, v, (Term){0, 0, 0});
}

/* A node that is read at most once, or has at most one term, saves nothing. */
static void settle(State *s) {
    while (s->queue.n) {
        int v = s->queue.at[--s->queue.n];
        s->queued[v] = 0;
        if (s->alive[v] && (s->users[v].n <= 1 || s->sum[v].n <= 1)) dissolve(s, v);
    }
}

/* --- depth -------------------------------------------------------------------------------------------------------- */

static int ceil_log2(uint64_t x) { int n = 0; while ((1ull << n) < x) n++; return n; }

static void visit(State *s, int v) {
    if (s->seen[v] == s->stamp) return;
    s->seen[v] = s->stamp; s->load[v] = 0; s->level[v] = 0; s->late[v] = s->cap;
    if (v < s->n_in) return;
    for (int i = 0; i < s->sum[v].n; i++) { visit(s, s->sum[v].at[i].src); s->load[v] += 1ull << s->level[s->sum[v].at[i].src]; }
    s->level[v] = ceil_log2(s->load[v]);
    push(&s->order, v);
}

/* Levels of all nodes, and the latest level each may move to alone; returns whether the cap holds. */
static int measure(State *s) {
    int fits = 1;
    s->stamp++; s->order.n = 0;
    for (int v = s->n_in; v < s->n_node; v++) if (s->alive[v]) visit(s, v);
    for (int k = s->order.n - 1; k >= 0; k--) {
        int v = s->order.at[k];
        if (s->level[v] > s->cap) fits = 0;
        if (s->late[v] < s->level[v]) s->late[v] = s->level[v];
        for (int i = 0; i < s->sum[v].n; i++) {
            int u = s->sum[v].at[i].src, x = s->level[u];
            uint64_t slack = (1ull << s->late[v]) - s->load[v] + (1ull << x);
            while ((2ull << x) <= slack) x++;
            if (x < s->late[u]) s->late[u] = x;
        }
    }
    return fits;
}

/* --- sharing ------------------------------------------------------------------------------------------------------ */

static void share(State *s, uint64_t key) {
    int a = (int)(key >> 40) - 1, b = (int)((key >> 16) & 0xffffff), apart = (int)((key >> 1) & 0x7fff) - 512, differ = key & 1;
    Ids *u = s->users[a].n <= s->users[b].n ? &s->users[a] : &s->users[b];
    int v = -1;
    Term base = {0, 0, 0};
    s->scratch.n = 0;
    for (int k = 0; k < u->n; k++) push(&s->scratch, u->at[k]);
    for (int k = 0; k < s->scratch.n && v < 0; k++) {
        Terms *x = &s->sum[s->scratch.at[k]];
        if (x->n == 2 && pair_key(x->at[0], x->at[1]) == key) v = s->scratch.at[k];
    }
    if (v < 0) {
        v = born(s);
        add(s, v, (Term){a, 0, 0}); add(s, v, (Term){b, apart, differ});
        base.src = v;
    } else {
        Term p = s->sum[v].at[0], q = s->sum[v].at[1];
        if (p.src > q.src || (p.src == q.src && p.shift > q.shift)) p = q;
        base = (Term){v, -p.shift, p.neg};
    }
    if (s->cap) measure(s);
    for (int k = 0; k < s->scratch.n; k++) {
        int e = s->scratch.at[k];
        if (e == v) continue;
        for (int i = 0; i < s->sum[e].n; i++) {
            Terms *x = &s->sum[e];
            Term t = x->at[i];
            if (t.src != a) continue;
            int j = 0;
            while (j < x->n && (j == i || x->at[j].src != b || x->at[j].shift != t.shift + apart || x->at[j].neg != (t.neg ^ differ))) j++;
            if (j == x->n) continue;
            uint64_t load = 0;
            if (s->cap) {
                load = s->load[e] - (1ull << s->level[a]) - (1ull << s->level[b]) + (1ull << s->level[v]);
                if (load > (1ull << s->late[e])) continue;
            }
            int mark = s->n_journal;
            drop(s, e, i > j ? i : j); drop(s, e, i > j ? j : i);
            add(s, e, (Term){v, base.shift + t.shift, base.neg ^ t.neg});
            if (s->cap) {
                if (load > (1ull << s->level[e])) {
                    if (!measure(s)) { undo(s, mark); measure(s); continue; }
                } else {
                    s->load[e] = 0;
                    for (int m = 0; m < s->sum[e].n; m++) s->load[e] += 1ull << s->level[s->sum[e].at[m].src];
                }
            }
            i = -1;
        }
    }
    enqueue(s, v);
}

/* Shares the most frequent pair, again and again; `noise` / 2^16 is the chance to look one bucket lower. */
static void share_all(State *s, uint32_t noise) {
    for (s->sharing = 1;;) {
        while (s->top >= 2 && !s->bucket[s->top].n) s->top--;
        if (s->top < 2 || s->broken) break;
        int c = s->top;
        while (noise && c > 2 && draw(s, 65536) < noise) {
            int k = c - 1;
            while (k >= 2 && !s->bucket[k].n) k--;
            if (k < 2) break;
            c = k;
        }
        uint64_t key = s->slot[s->bucket[c].at[draw(s, s->bucket[c].n)]].key;
        share(s, key); settle(s);
        int32_t i = find(s, key);
        if (s->slot[i].count >= 2) { leave_bucket(s, i); s->slot[i].blocked = 1; }
    }
    s->sharing = 0;
}

/* --- ruin and recreate -------------------------------------------------------------------------------------------- */

/* A node near v: one of its terms, one of its readers, or a term or reader of those. */
static int neighbour(State *s, int v) {
    for (int tries = 0; tries < 8; tries++) {
        int w = -1;
        if (s->sum[v].n && draw(s, 2)) {
            w = s->sum[v].at[draw(s, s->sum[v].n)].src;
            if (!draw(s, 2) || w < s->n_in) w = s->users[w].at[draw(s, s->users[w].n)];
        } else if (s->users[v].n) {
            w = s->users[v].at[draw(s, s->users[v].n)];
            if (draw(s, 4)) w = s->sum[w].at[draw(s, s->sum[w].n)].src;
        }
        if (w >= s->n_in && !s->output[w] && w != v) return w;
    }
    return -1;
}

/* 2^k + 2^(k+1) is also 2^(k+2) - 2^k: shows the recreation the other spelling of one weight. */
static void respell(State *s, int e) {
    if (s->sum[e].n < 2) return;
    int i = (int)draw(s, s->sum[e].n), j = 0;
    Term t = s->sum[e].at[i], o = t;
    for (; j < s->sum[e].n; j++) {
        o = s->sum[e].at[j];
        if (o.src == t.src && o.shift - t.shift == (o.neg == t.neg ? 1 : 2)) break;
    }
    if (j == s->sum[e].n) return;
    drop(s, e, i > j ? i : j); drop(s, e, i > j ? j : i);
    add(s, e, (Term){t.src, t.shift, o.neg ^ (o.neg == t.neg)});
    add(s, e, (Term){t.src, t.shift + (o.neg == t.neg ? 2 : 1), o.neg});
}

static void ruin(State *s, int v, int size, int respelling) {
    for (int k = 0; k < size; k++) {
        int next = neighbour(s, v);
        if (respelling && draw(s, respelling) == 0 && s->users[v].n) respell(s, s->users[v].at[draw(s, s->users[v].n)]);
        dissolve(s, v); settle(s);
        if (next < 0 || !s->alive[next]) return;
        v = next;
    }
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

/* Processor time: a busy machine changes how long a search takes, not what it finds. */
static double now(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }

/* Writes the network in the form that it came in; the outputs stay first. */
static int64_t save(State *s, int32_t *to, int64_t room, int32_t *name) {
    int64_t at = 0; int count = s->n_in;
    for (int v = 0; v < s->n_node; v++) name[v] = v < s->n_in ? v : -1;
    for (int v = s->n_in; v < s->n_node; v++) if (s->alive[v]) name[v] = count++;
    for (int v = s->n_in; v < s->n_node; v++) if (s->alive[v]) {
        if (at + 1 + 3 * (int64_t)s->sum[v].n > room) return -1;
        to[at++] = s->sum[v].n;
        for (int i = 0; i < s->sum[v].n; i++) {
            Term t = s->sum[v].at[i];
            to[at++] = name[t.src]; to[at++] = t.shift; to[at++] = t.neg;
        }
    }
    return at;
}

static void release(State *s) {
    for (int v = 0; v < s->room; v++) { free(s->sum[v].at); free(s->users[v].at); }
    for (int c = 0; c < BUCKETS; c++) free(s->bucket[c].at);
    free(s->sum); free(s->users); free(s->output); free(s->alive); free(s->queued); free(s->free_ids.at); free(s->queue.at);
    free(s->order.at); free(s->scratch.at); free(s->slot); free(s->journal); free(s->level); free(s->late); free(s->seen);
    free(s->load); free(s);
}

/* network: per sum its length, then (source, shift, negative) per term; the first n_out sums are the outputs.
 * accept[d]: chance / 2^16 of keeping a result that costs d more, d = 0 .. n_accept - 1.  Returns the length of `best`. */
int64_t lhcc_adders_search(int32_t n_in, int32_t n_out, int32_t n_sum, const int32_t *network, int32_t cap, int64_t rounds,
                           double seconds, uint64_t seed, int32_t ruin_size, int32_t respelling, int32_t noise,
                           const int32_t *accept, int32_t n_accept, int32_t *best, int64_t best_room, int64_t *report) {
    double end = now() + seconds;
    int64_t terms = 0, length = 0, at = 0;
    State *s = calloc(1, sizeof *s);
    for (int v = 0; v < n_sum; v++) { terms += network[at]; at += 1 + 3 * network[at]; }
    s->n_in = n_in; s->n_node = n_in + n_sum; s->room = n_in + n_sum + (int)terms * 2 + 1024; s->cap = cap; s->random = seed;
    s->sum = calloc(s->room, sizeof(Terms)); s->users = calloc(s->room, sizeof(Ids));
    s->output = calloc(s->room, 1); s->alive = calloc(s->room, 1); s->queued = calloc(s->room, 1);
    s->level = calloc(s->room, 4); s->late = calloc(s->room, 4); s->seen = calloc(s->room, 4); s->load = calloc(s->room, 8);
    int32_t *name = calloc(s->room, 4);
    resize_table(s, 0);
    for (int v = 0; v < n_sum; v++) { s->alive[n_in + v] = 1; s->output[n_in + v] = v < n_out; }
    at = 0;
    for (int v = 0; v < n_sum; v++) {
        int n = network[at++];
        for (int i = 0; i < n; i++, at += 3) put(s, n_in + v, (Term){network[at], network[at + 1], network[at + 2]});
    }
    for (int v = n_in + n_out; v < s->n_node; v++) enqueue(s, v);
    settle(s); share_all(s, 0);
    int64_t current = s->cost, lowest = current, round = 0;
    length = save(s, best, best_room, name);
    for (; round < rounds && !s->broken; round++) {
        if (seconds > 0 && (round & 15) == 0 && now() > end) break;
        s->n_journal = 0;
        int v = -1;
        for (int tries = 0; tries < 256 && v < 0; tries++) {
            int w = n_in + (int)draw(s, s->n_node - n_in);
            if (s->alive[w] && !s->output[w]) v = w;
        }
        if (v < 0) break;
        ruin(s, v, 1 + (int)draw(s, ruin_size), respelling);
        share_all(s, noise); settle(s);
        int64_t c = s->cost, worse = c - current;
        if (worse <= 0 || (worse < n_accept && draw(s, 65536) < (uint32_t)accept[worse])) {
            current = c;
            if (c < lowest) { lowest = c; length = save(s, best, best_room, name); }
        } else undo(s, 0);
    }
    report[0] = lowest; report[1] = round; report[2] = s->broken;
    free(name); release(s);
    return length;
}
