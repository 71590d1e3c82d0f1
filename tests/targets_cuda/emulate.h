// CUDA's threads, shared memory and matrix instructions on a processor: what stands in for device.cuh when generated
// kernels run without a GPU.  Every thread of a block is a context of its own, which gives way where it would wait:
// at barriers, and where the lanes of a warp exchange registers.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define __global__ inline
#define __launch_bounds__(...)
#define __restrict__
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short

struct half {
  _Float16 value;
  half() = default;
  half(float x) : value((_Float16)x) {}
  operator float() const { return (float)value; }
};
struct nv_bfloat16 {
  uint16_t bits;
  nv_bfloat16() = default;
  nv_bfloat16(float x) {
    uint32_t word;
    memcpy(&word, &x, 4);
    bits = x != x ? 0x7fc0 : (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  }
  operator float() const {
    const uint32_t word = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &word, 4);
    return x;
  }
};

struct Index { int x, y, z; };

namespace emulated {

constexpr int WARP = 32, STACK = 64 << 10;
constexpr int POISON = 0x7fc0dead;  // not a number, in any of the types

struct Copy { int address; uint32_t words[4]; };

struct Thread {
  ucontext_t start;
  jmp_buf here;
  std::vector<char> stack;
  bool begun, done, waited;
  unsigned barriers, exchanges;  // passed so far
  std::vector<std::vector<Copy>> copies;  // groups under way, the last one open
  alignas(16) uint32_t given[16];
};

// Who touched a word of shared memory last, and after how many barriers.
struct Word { int writer, reader; unsigned written, read; };

struct Run {
  int address;
  unsigned begun;  // so far
  std::vector<uint32_t> words;  // under way
};

struct Block {
  std::vector<Word> words;
  std::vector<Thread> threads;
  std::vector<unsigned char> shared;
  jmp_buf scheduler;
  int current, alive;
  unsigned barriers;       // completed
  int waiting;             // threads at the next one
  std::vector<unsigned> exchanges;  // completed, per warp
  std::vector<int> exchanging;
  void (*kernel)(void**);
  void** arguments;
  bool engine;  // whether there is one that copies
  std::vector<Run> runs;
  int arrivals;  // where those of the runs are noted
  int others;  // threads that have waited for what other kernels write
};

static Block block;
static const char* fault;

inline void fail(const char* what) {
  fault = what;
  fprintf(stderr, "emulation: %s\n", what);
  abort();
}

inline Thread& self() { return block.threads[block.current]; }

inline void give_way() {
  if (!_setjmp(self().here)) _longjmp(block.scheduler, 1);
}

// All lanes of the warp have written `given` when this returns; they may write again after the next call.
inline void exchange() {
  Thread& thread = self();
  const int warp = block.current / WARP;
  const unsigned number = thread.exchanges++;
  if (++block.exchanging[warp] == WARP) {
    block.exchanging[warp] = 0;
    ++block.exchanges[warp];
  }
  while (block.exchanges[warp] <= number) give_way();
}

inline Thread& lane(int number) { return block.threads[block.current / WARP * WARP + number]; }

enum Access { READ, WRITE };

// Refuses accesses outside shared memory, and those that no barrier puts in an order with what another thread did.
inline void check(int address, int size, Access access) {
  constexpr int MANY = -2;
  if (address < 0 || address + size > (int)block.shared.size() || address % size)
    fail("an access outside shared memory, or not aligned");
  const int me = block.current;
  const unsigned now = self().barriers + 1;
  for (int word = address / 4; word < (address + size) / 4; ++word) {
    Word& last = block.words[word];
    if (last.written == now && last.writer != me) fail("a race: two threads touch what one of them writes");
    if (access == WRITE) {
      if (last.read == now && last.reader != me) fail("a race: a thread writes what another reads");
      last.writer = me, last.written = now;
    } else {
      last.reader = last.read == now && last.reader != me ? MANY : me;
      last.read = now;
    }
  }
}

inline void entry() {
  block.kernel(block.arguments);
  if (!self().waited) fail("a thread did not wait for other kernels");
  if (self().copies.size() > 1) {
    for (auto& group : self().copies)
      if (!group.empty()) fail("a thread ended with copies under way");
  }
  self().done = true;
  --block.alive;
  _longjmp(block.scheduler, 1);
}

}  // namespace emulated

struct ThreadIndex {
  struct X { operator int() const { return emulated::block.current; } } x;
};
static const ThreadIndex threadIdx;
static Index blockIdx;

inline void __syncthreads() {
  using namespace emulated;
  const unsigned number = self().barriers++;
  if (++block.waiting == (int)block.threads.size()) {
    block.waiting = 0;
    ++block.barriers;
  }
  while (block.barriers <= number) give_way();
}

// Set by the driver, by name: until all threads of a block have waited, memory that kernels write must not be touched.
extern "C" {
void (*lhcc_forbid)(int) = [](int) {};
}

inline void let_next_begin() {}

inline void wait_for_others() {
  using namespace emulated;
  if (self().waited) fail("a thread waits twice for other kernels");
  self().waited = true;
  if (++block.others == (int)block.threads.size()) lhcc_forbid(false);
  while (block.others < (int)block.threads.size()) give_way();
}

inline int shared_memory() { return 0; }

template <typename T>
inline void put_shared(int address, T value) {
  emulated::check(address, 4, emulated::WRITE);
  memcpy(&emulated::block.shared[address], &value, 4);
}

template <typename T>
inline T get_shared(int address) {
  emulated::check(address, 4, emulated::READ);
  T value;
  memcpy(&value, &emulated::block.shared[address], 4);
  return value;
}

// Until a thread waits for its copies, the place that they go to holds poison.
inline void copy16(int address, const void* source, int inside) {
  using namespace emulated;
  check(address, 16, WRITE);
  if (inside && (uintptr_t)source % 16) fail("a copy from an address that is not aligned");
  Copy copy = {address, {0, 0, 0, 0}};
  if (inside) memcpy(copy.words, source, 16);
  const int poison[4] = {POISON, POISON, POISON, POISON};
  memcpy(&block.shared[address], poison, 16);
  self().copies.back().push_back(copy);
}

inline void commit_copies() { emulated::self().copies.emplace_back(); }

template <int N>
inline void wait_copies() {
  using namespace emulated;
  auto& groups = self().copies;
  while ((int)groups.size() > N + 1) {
    for (const Copy& copy : groups.front()) {
      check(copy.address, 16, WRITE);
      memcpy(&block.shared[copy.address], copy.words, 16);
    }
    groups.erase(groups.begin());
  }
}

// The copy engine, where there is one.  Until somebody awaits a run, the place that it goes to holds poison.
inline void expect_runs(int arrivals, int count) {
  using namespace emulated;
  if (block.current == 0) block.runs.assign(count, {0, 0, {}}), block.arrivals = arrivals;
}

inline void copy_run(int address, const void* source, int bytes, int arrival, int thread, int threads) {
  using namespace emulated;
  if (!block.engine)
    for (int at = 16 * thread; at < bytes; at += 16 * threads) copy16(address + at, (const char*)source + at, 1);
  if (thread || !block.engine) return;
  if (address % 16 || (uintptr_t)source % 16 || bytes % 16) fail("a run that is not aligned");
  Run& run = block.runs.at((arrival - block.arrivals) / 8);
  if (run.words.size()) fail("a run is copied to where another one is under way");
  for (int at = 0; at < bytes; at += 4) {
    check(address + at, 4, WRITE);
    memcpy(&block.shared[address + at], &POISON, 4);
  }
  run.address = address, ++run.begun;
  run.words.resize(bytes / 4);
  memcpy(run.words.data(), source, bytes);
}

inline void await_run(int arrival, int odd) {
  using namespace emulated;
  if (!block.engine) return;
  Run& run = block.runs.at((arrival - block.arrivals) / 8);
  while (run.begun % 2 == odd) give_way();
  memcpy(&block.shared[run.address], run.words.data(), 4 * run.words.size());
  run.words.clear();
}

inline void get_shared16(int* into, int address) {
  emulated::check(address, 16, emulated::READ);
  memcpy(into, &emulated::block.shared[address], 16);
}

template <int N, typename T>
inline void put_channels(int address, const float* values) {
  constexpr int bytes = N * sizeof(T) < 16 ? 8 : 16;
  static_assert(N * sizeof(T) % bytes == 0, "no whole vectors");
  for (int at = 0; at < (int)(N * sizeof(T)); at += bytes) emulated::check(address + at, bytes, emulated::WRITE);
  for (int i = 0; i < N; ++i) {
    const T number(values[i]);
    memcpy(&emulated::block.shared[address + i * sizeof(T)], &number, sizeof(T));
  }
}

// A place that nobody may read is a fault on the emulator alone: hardware drops such a request.
inline void prefetch(const void* place) { (void)*(const volatile char*)place; }

inline void load_matrix(int* a, int address) {
  using namespace emulated;
  check(address, 16, READ);
  memcpy(self().given, &block.shared[address], 16);
  exchange();
  const int me = block.current % WARP;
  for (int matrix = 0; matrix < 4; ++matrix) a[matrix] = lane(matrix * 8 + me / 4).given[me % 4];
  exchange();
}

namespace emulated {

inline float f16(uint32_t word, int i) {
  _Float16 x;
  const uint16_t bits = word >> (16 * i);
  memcpy(&x, &bits, 2);
  return (float)x;
}
inline float bf16(uint32_t word, int i) {
  nv_bfloat16 x;
  x.bits = word >> (16 * i);
  return (float)x;
}
inline float tf32(uint32_t word, int) {
  word &= 0xffffe000;
  float x;
  memcpy(&x, &word, 4);
  return x;
}
inline float f32(uint32_t word, int) {
  float x;
  memcpy(&x, &word, 4);
  return x;
}

inline int u8(uint32_t word, int i) { return (uint8_t)(word >> (8 * i)); }
inline int s8(uint32_t word, int i) { return (int8_t)(word >> (8 * i)); }

// c += a * b over 32 bytes of depth; per 4-byte word there are K numbers.
template <int K, typename Number, Number (*pixel)(uint32_t, int), Number (*weight)(uint32_t, int)>
inline void multiply(Number* c, const int* a, const int* b) {
  Thread& thread = self();
  memcpy(thread.given, a, 16);
  memcpy(thread.given + 4, b, 8);
  exchange();
  const int me = block.current % WARP, g = me / 4, q = me % 4;
  for (int i = 0; i < 4; ++i) {
    const int output = 2 * q + i % 2, half = i / 2;
    double sum = c[i];
    for (int word = 0; word < 8; ++word) {
      const uint32_t x = lane(4 * g + word % 4).given[half + word / 4 * 2];
      const uint32_t w = lane(4 * output + word % 4).given[4 + word / 4];
      for (int k = 0; k < K; ++k) sum += (double)pixel(x, k) * weight(w, k);
    }
    c[i] = (Number)sum;
  }
  exchange();
}

}  // namespace emulated

#define MULTIPLY(name, K, Number, pixel, weight)                               \
  inline void multiply_##name(Number* c, const int* a, const int* b) {         \
    emulated::multiply<K, Number, emulated::pixel, emulated::weight>(c, a, b); \
  }
MULTIPLY(f16, 2, float, f16, f16)
MULTIPLY(bf16, 2, float, bf16, bf16)
MULTIPLY(tf32, 1, float, tf32, tf32)
MULTIPLY(u8, 4, int, u8, s8)
MULTIPLY(s8, 4, int, s8, s8)

inline int high(int bits) { return bits & 0xffffe000; }
inline int low(int bits) {
  const float rest = emulated::f32(bits, 0) - emulated::f32(high(bits), 0);
  int word;
  memcpy(&word, &rest, 4);
  return word;
}
inline void multiply_f32(float* c, const int* a, const int* b) {
  int halves[2][6];
  for (int i = 0; i < 6; ++i) halves[0][i] = high(i < 4 ? a[i] : b[i - 4]), halves[1][i] = low(i < 4 ? a[i] : b[i - 4]);
  multiply_tf32(c, halves[1], halves[0] + 4);
  multiply_tf32(c, halves[0], halves[1] + 4);
  multiply_tf32(c, halves[0], halves[0] + 4);
}

inline void load_words(int* a, int first, int second) {
  for (int half = 0; half < 4; ++half) get_shared16(a + 4 * half, (half < 2 ? first : second) + half % 2 * 16);
}

inline void multiply_fma(float* c, const int* a, const int* b) {
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 2; ++i) {
      c[i] += emulated::f32(a[k], 0) * emulated::f32(b[2 * k + i], 0);
      c[2 + i] += emulated::f32(a[8 + k], 0) * emulated::f32(b[2 * k + i], 0);
    }
}

inline void multiply_words(int* c, const int* a, const int* b) {
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 2; ++i) c[i] += a[k] * b[2 * k + i], c[2 + i] += a[8 + k] * b[2 * k + i];
}

template <int N, typename Number, typename T>
inline void load_channels(Number* into, const T* source) {
  if ((uintptr_t)source % (N * sizeof(T) < 16 ? N * sizeof(T) : 16)) emulated::fail("channels at no aligned address");
  for (int i = 0; i < N; ++i) into[i] = (Number)source[i];
}

template <int N, typename T>
inline void fetch(int* into, const T* source) {
  if ((uintptr_t)source % (N * sizeof(T) < 16 ? N * sizeof(T) : 16)) emulated::fail("channels at no aligned address");
  memcpy(into, source, N * sizeof(T));
}

template <int N, typename Number, typename T>
inline void fetched(Number* into, const int* words, const T*) {
  for (int i = 0; i < N; ++i) {
    T number;
    memcpy(&number, (const char*)words + i * sizeof(T), sizeof(T));
    into[i] = (Number)number;
  }
}

template <int N, typename T>
inline void store_words(T* target, const int* from) {
  if ((uintptr_t)target % 16 || N % 4) emulated::fail("channels at no aligned address");
  memcpy(target, from, 4 * N);
}

template <int N, typename T>
inline void max_words(int* largest, const int* words) {
  T a[N * 4 / sizeof(T)], b[N * 4 / sizeof(T)];
  memcpy(a, largest, 4 * N), memcpy(b, words, 4 * N);
  for (int i = 0; i < (int)(N * 4 / sizeof(T)); ++i)
    if ((float)b[i] > (float)a[i]) a[i] = b[i];
  memcpy(largest, a, 4 * N);
}

template <int N, typename Number, typename T>
inline void store_channels(T* target, const Number* from) {
  if ((uintptr_t)target % (N * sizeof(T) < 16 ? N * sizeof(T) : 16)) emulated::fail("channels at no aligned address");
  for (int i = 0; i < N; ++i) target[i] = T(from[i]);
}

inline float sum_lanes(float value) {
  using namespace emulated;
  memcpy(self().given, &value, 4);
  exchange();
  float sum = 0;
  for (int i = 0; i < WARP; ++i) sum += f32(lane(i).given[0], 0);
  exchange();
  return sum;
}

template <int N>
inline void max_lanes(float* values, int distance) {
  using namespace emulated;
  static_assert(N <= 16, "more than a lane can give");
  memcpy(self().given, values, 4 * N);
  exchange();
  const Thread& other = lane(block.current % WARP ^ distance);
  for (int i = 0; i < N; ++i) values[i] = fmaxf(values[i], f32(other.given[i], 0));
  exchange();
}

inline float minus_infinity() { return -INFINITY; }

template <typename T>
inline T max(T a, T b) { return a > b ? a : b; }
template <typename T>
inline T min(T a, T b) { return a < b ? a : b; }

// Runs one kernel over its grid, block after block.  Shared memory starts as poison in each.
inline void run_grid(void (*kernel)(void**), void** arguments, int grid_x, int grid_y, int threads, int shared) {
  using namespace emulated;
  block.kernel = kernel;
  block.arguments = arguments;
  if (threads % WARP) fail("a block of no whole warps");
  if ((int)block.threads.size() != threads) {
    block.threads = std::vector<Thread>(threads);
    for (Thread& thread : block.threads) thread.stack.resize(STACK);
  }
  for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x) {
      block.shared.resize(shared);
      block.words.assign(shared / 4, {-1, -1, 0, 0});
      for (int at = 0; at + 4 <= shared; at += 4) memcpy(&block.shared[at], &POISON, 4);
      block.alive = threads;
      block.waiting = 0, block.barriers = 0, block.others = 0;
      lhcc_forbid(true);
      block.exchanges.assign(threads / WARP, 0), block.exchanging.assign(threads / WARP, 0);
      for (Thread& thread : block.threads) {
        thread.begun = thread.done = thread.waited = false;
        thread.barriers = thread.exchanges = 0;
        thread.copies.assign(1, {});
      }
      // the volatile copy survives the jumps; each round lets every thread run until it waits
      volatile int current = 0;
      while (block.alive) {
        for (current = 0; current < threads; current = current + 1) {
          block.current = current;
          Thread& thread = block.threads[current];
          if (thread.done || _setjmp(block.scheduler)) continue;
          if (thread.begun) _longjmp(thread.here, 1);
          thread.begun = true;
          getcontext(&thread.start);
          thread.start.uc_stack.ss_sp = thread.stack.data();
          thread.start.uc_stack.ss_size = STACK;
          thread.start.uc_link = nullptr;
          makecontext(&thread.start, entry, 0);
          setcontext(&thread.start);
        }
      }
    }
}
