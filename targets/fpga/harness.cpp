// Drives a verilated design from C++: feeds transfers, takes results, offers and accepts at random where asked.
// The including file defines TOP, INPUTS, OUTPUTS, and the tables PORTS_IN and PORTS_OUT of port pointers.
#include <cstdint>
#include <cstring>

namespace {

template <class T> void put(T &port, const uint32_t *words, int count) {
  if constexpr (sizeof(T) <= 4) port = T(words[0]);
  else if constexpr (sizeof(T) == 8) port = T(words[0] | (count > 1 ? uint64_t(words[1]) << 32 : 0));
  else std::memcpy(&port, words, 4 * count);
}

template <class T> void get(const T &port, uint32_t *words, int count) {
  if constexpr (sizeof(T) <= 4) words[0] = uint32_t(port);
  else if constexpr (sizeof(T) == 8) {
    words[0] = uint32_t(port);
    if (count > 1) words[1] = uint32_t(uint64_t(port) >> 32);
  } else std::memcpy(words, &port, 4 * count);
}

uint64_t next(uint64_t &state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

}  // namespace

// Returns the number of cycles until the last result was taken, or -1 when nothing moved for `patience` cycles.
// `taken[k][i]` is the cycle in which result i of output k was taken.  Percentages below 100 idle ports at random.
extern "C" int64_t lhcc_simulate(const uint32_t *const *in, const int64_t *in_count, const int32_t *in_words,
                                 uint32_t *const *out, const int64_t *out_count, const int32_t *out_words,
                                 int64_t *const *taken, uint64_t seed, int offer_percent, int accept_percent,
                                 int64_t patience, const char *vcd, int64_t vcd_from, int64_t vcd_to) {
  VerilatedContext context;
  TOP top{&context};
#ifdef LHCC_VCD
  VerilatedVcdC trace;
  const bool tracing = vcd && *vcd;
  if (tracing) {
    context.traceEverOn(true);
    top.trace(&trace, 99);
    trace.open(vcd);
  }
#endif
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  int64_t sent[INPUTS] = {}, got[OUTPUTS] = {};
  bool offering[INPUTS] = {};
  top.rst = 1;
  for (int k = 0; k < 4; ++k) {
    top.clk = 0;
    top.eval();
    top.clk = 1;
    top.eval();
  }
  top.rst = 0;
  int64_t cycle = 0, last_move = 0, end = 0;
  for (;; ++cycle) {
    top.clk = 0;
    // an offer, once made, stands until it is taken, as AXI4-Stream asks
#define DRIVE(K, P)                                                                              \
    if (!offering[K]) offering[K] = sent[K] < in_count[K] && (offer_percent >= 100 || int(next(state) % 100) < offer_percent); \
    top.P##_tvalid = offering[K];                                                                \
    if (offering[K]) put(top.P##_tdata, in[K] + sent[K] * in_words[K], in_words[K]);
    PORTS_IN(DRIVE)
#define ACCEPT(K, P) top.P##_tready = accept_percent >= 100 || int(next(state) % 100) < accept_percent;
    PORTS_OUT(ACCEPT)
    top.eval();
    bool moved = false, open = false;
#define SENT(K, P)                                      \
    if (offering[K] && top.P##_tready) {                \
      ++sent[K];                                        \
      offering[K] = false;                              \
      moved = true;                                     \
    }
    PORTS_IN(SENT)
#define TAKE(K, P)                                                             \
    if (top.P##_tvalid && top.P##_tready) {                                    \
      if (got[K] < out_count[K]) {                                             \
        get(top.P##_tdata, out[K] + got[K] * out_words[K], out_words[K]);      \
        taken[K][got[K]] = cycle;                                              \
      }                                                                        \
      ++got[K];                                                                \
      moved = true;                                                            \
      end = cycle + 1;                                                         \
    }                                                                          \
    open |= got[K] < out_count[K];
    PORTS_OUT(TAKE)
    if (moved) last_move = cycle;
#ifdef LHCC_VCD
    const bool shown = tracing && cycle >= vcd_from && cycle < vcd_to;
    if (shown) trace.dump(uint64_t(10 * cycle));
#endif
    top.clk = 1;
    top.eval();
#ifdef LHCC_VCD
    if (shown) trace.dump(uint64_t(10 * cycle + 5));
#endif
    if (!open) break;
    if (cycle - last_move > patience) {
      end = -1;
      break;
    }
  }
#ifdef LHCC_VCD
  if (tracing) trace.close();
#endif
  return end;
}
