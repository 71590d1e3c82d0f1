// The instructions that TIR has no words for: copies into shared memory, matrix products, whole channels of a pixel.
// Generated kernels follow this file.  Shared memory is addressed by 32-bit numbers, as the instructions want it.
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
#define on_device static __device__ __forceinline__

// The 16-bit types of CUDA's headers, as far as kernels need them: the headers take longer to read than the kernels.
struct half {
  unsigned short bits;
  half() = default;
  __device__ half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ operator float() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
};

struct nv_bfloat16 {
  unsigned short bits;
  nv_bfloat16() = default;
#if __CUDA_ARCH__ >= 800
  __device__ nv_bfloat16(float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
#endif
  __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

// In a graph a kernel may begin while the one before it ends, where the hardware can (programmatic dependent launch).
// Every thread of every kernel waits before it touches what another kernel reads or writes: then all before it have
// ended, since none of them ends without having waited.  What never changes may be read earlier.
on_device void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
on_device void wait_for_others() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

extern __shared__ __align__(128) unsigned char lhcc_shared[];

on_device int shared_memory() { return (int)__cvta_generic_to_shared(lhcc_shared); }

on_device void put_shared(int address, int value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
on_device void put_shared(int address, float value) { put_shared(address, __float_as_int(value)); }

template <typename T>
on_device T get_shared(int address) {
  T value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"((int&)value) : "r"(address) : "memory");
  return value;
}

// 16 bytes from memory, or zeros: asynchronous where the hardware can.
on_device void copy16(int address, const void* source, int inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(inside ? 16 : 0)
               : "memory");
#else
  int4 value = make_int4(0, 0, 0, 0);
  if (inside) value = *(const int4*)source;
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
#endif
}

on_device void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most N groups of this thread's copies are under way.
template <int N>
on_device void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// A run of bytes, whole 16 of them, from memory that no kernel writes.  Where the hardware has a copy engine, one thread
// sets it to work, and the run's arrival is noted in shared memory; else every thread copies a part of it as above.
on_device void expect_runs(int arrivals, int count) {
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0) {
    for (int i = 0; i < count; ++i) asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(arrivals + 8 * i) : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
#endif
}

on_device void copy_run(int address, const void* source, int bytes, int arrival, int thread, int threads) {
#if __CUDA_ARCH__ >= 900
  if (thread == 0) {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(arrival), "r"(bytes)
                 : "memory");
    if (bytes)
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                       address),
                   "l"(source), "r"(bytes), "r"(arrival)
                   : "memory");
  }
#else
  for (int piece = 16 * thread; piece < bytes; piece += 16 * threads)
    copy16(address + piece, (const char*)source + piece, 1);
#endif
}

// Arrivals are counted from 0 on; `odd` says which of two that follow each other is meant.
on_device void await_run(int arrival, int odd) {
#if __CUDA_ARCH__ >= 900
  int arrived;
  do asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
                  : "=r"(arrived)
                  : "r"(arrival), "r"(odd)
                  : "memory");
  while (!arrived);
#endif
}

on_device void get_shared16(int* into, int address) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(into[0]), "=r"(into[1]), "=r"(into[2]), "=r"(into[3])
               : "r"(address)
               : "memory");
}

// N numbers of a map into shared memory: 8 bytes, or whole 16.
template <int N, typename T>
on_device void put_channels(int address, const float* from) {
  constexpr int bytes = N * sizeof(T) < 16 ? 8 : 16, each = bytes / sizeof(T);
  struct __align__(16) Vector { T at[each]; };
  for (int part = 0; part < N / each; ++part) {
    Vector vector;
    for (int i = 0; i < each; ++i) vector.at[i] = T(from[part * each + i]);
    const int* w = (const int*)&vector;
    if (bytes == 16)
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address + 16 * part), "r"(w[0]), "r"(w[1]),
                   "r"(w[2]), "r"(w[3])
                   : "memory");
    else
      asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(w[0]), "r"(w[1]) : "memory");
  }
}

// Asks for a line of memory to be brought into the L2 cache.
on_device void prefetch(const void* place) { asm volatile("prefetch.global.L2 [%0];" ::"l"(place)); }

// 16 pixels x 32 bytes: every lane gives the address of half a row, and gets the fragment of matrix instructions.
on_device void load_matrix(int* a, int address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}

on_device void multiply_f16(float* c, const int* a, const int* b) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; ++half)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

#if __CUDA_ARCH__ >= 800
on_device void multiply_bf16(float* c, const int* a, const int* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

on_device void multiply_tf32(float* c, const int* a, const int* b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The 11 leading bits of a float's mantissa, and what is left of it.
on_device int high(int bits) { return bits & 0xffffe000; }
on_device int low(int bits) { return __float_as_int(__int_as_float(bits) - __int_as_float(high(bits))); }

on_device void multiply_f32(float* c, const int* a, const int* b) {
  const int a_high[4] = {high(a[0]), high(a[1]), high(a[2]), high(a[3])}, b_high[2] = {high(b[0]), high(b[1])};
  const int a_low[4] = {low(a[0]), low(a[1]), low(a[2]), low(a[3])}, b_low[2] = {low(b[0]), low(b[1])};
  multiply_tf32(c, a_low, b_high);  // the small products first
  multiply_tf32(c, a_high, b_low);
  multiply_tf32(c, a_high, b_high);
}
#endif

// Bytes: `type` is that of the pixels, weights are signed.  Older hardware takes 8 pixels and half the depth at a time.
#if __CUDA_ARCH__ >= 800
#define MULTIPLY_BYTES(type)                                                                                           \
  on_device void multiply_##type(int* c, const int* a, const int* b) {                                                 \
    asm("mma.sync.aligned.m16n8k32.row.col.s32." #type ".s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                                               \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                           \
  }
#else
#define MULTIPLY_BYTES(type)                                                                                           \
  on_device void multiply_##type(int* c, const int* a, const int* b) {                                                 \
    for (int part = 0; part < 4; ++part)                                                                               \
      asm("mma.sync.aligned.m8n8k16.row.col.s32." #type ".s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"                        \
          : "+r"(c[part % 2 * 2]), "+r"(c[part % 2 * 2 + 1])                                                           \
          : "r"(a[part]), "r"(b[part / 2]));                                                                           \
  }
#endif
MULTIPLY_BYTES(u8)
MULTIPLY_BYTES(s8)

// Without matrix instructions: 8 of the depth of two pixels, 8 weights of each of the lane's two outputs.
on_device void load_words(int* a, int first, int second) {
  for (int half = 0; half < 4; ++half) get_shared16(a + 4 * half, (half < 2 ? first : second) + half % 2 * 16);
}

on_device void multiply_fma(float* c, const int* a, const int* b) {
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 2; ++i) {
      c[i] += __int_as_float(a[k]) * __int_as_float(b[2 * k + i]);
      c[2 + i] += __int_as_float(a[8 + k]) * __int_as_float(b[2 * k + i]);
    }
}

on_device void multiply_words(int* c, const int* a, const int* b) {
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 2; ++i) c[i] += a[k] * b[2 * k + i], c[2 + i] += a[8 + k] * b[2 * k + i];
}

// Numbers of a map as floats or integers, N at a time: N * size bytes are aligned to as much, up to 16.
template <int N, typename Number, typename T>
on_device void load_channels(Number* into, const T* source) {
  constexpr int bytes = N * sizeof(T) < 16 ? N * sizeof(T) : 16, each = bytes / sizeof(T);
  struct __align__(bytes) Vector { T at[each]; };
  for (int part = 0; part < N / each; ++part) {
    const Vector vector = ((const Vector*)source)[part];
    for (int i = 0; i < each; ++i) into[part * each + i] = (Number)vector.at[i];
  }
}

// The same in two steps, as the bytes that they are in between: N * size of them, whole words.
template <int N, typename T>
on_device void fetch(int* into, const T* source) {
  constexpr int words = N * sizeof(T) / 4, each = words < 4 ? words : 4;
  struct __align__(4 * each) Vector { int at[each]; };
  for (int part = 0; part < words / each; ++part) {
    const Vector vector = ((const Vector*)source)[part];
    for (int i = 0; i < each; ++i) into[part * each + i] = vector.at[i];
  }
}

template <int N, typename Number, typename T>
on_device void fetched(Number* into, const int* words, const T*) {
  struct __align__(4) Word { T at[4 / sizeof(T)]; };
  for (int i = 0; i < N; ++i) into[i] = (Number)((const Word*)words)[i * sizeof(T) / 4].at[i % (4 / sizeof(T))];
}

template <int N, typename T>
on_device void store_words(T* target, const int* from) {
  for (int part = 0; part < N / 4; ++part)
    ((int4*)target)[part] = make_int4(from[4 * part], from[4 * part + 1], from[4 * part + 2], from[4 * part + 3]);
}

// The larger ones of the numbers in two words.
template <typename T>
on_device int max_word(int a, int b, const T*) {
  struct __align__(4) Word { T at[4 / sizeof(T)]; };
  Word x = *(const Word*)&a;
  const Word y = *(const Word*)&b;
  for (int i = 0; i < (int)(4 / sizeof(T)); ++i)
    if (float(y.at[i]) > float(x.at[i])) x.at[i] = y.at[i];
  return *(const int*)&x;
}
#if __CUDA_ARCH__ >= 800
on_device int max_word(int a, int b, const half*) {
  asm("max.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  return a;
}
on_device int max_word(int a, int b, const nv_bfloat16*) {
  asm("max.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  return a;
}
#endif

template <int N, typename T>
on_device void max_words(int* largest, const int* words) {
  for (int i = 0; i < N; ++i) largest[i] = max_word(largest[i], words[i], (const T*)nullptr);
}

template <int N, typename Number, typename T>
on_device void store_channels(T* target, const Number* from) {
  constexpr int bytes = N * sizeof(T) < 16 ? N * sizeof(T) : 16, each = bytes / sizeof(T);
  struct __align__(bytes) Vector { T at[each]; };
  for (int part = 0; part < N / each; ++part) {
    Vector vector;
    for (int i = 0; i < each; ++i) vector.at[i] = T(from[part * each + i]);
    ((Vector*)target)[part] = vector;
  }
}

// The sum of a value over the lanes of a warp.
on_device float sum_lanes(float value) {
  for (int distance = 16; distance; distance /= 2) value += __shfl_xor_sync(0xffffffff, value, distance);
  return value;
}

// The larger of a lane's numbers and those of the lane so far away.
template <int N>
on_device void max_lanes(float* values, int distance) {
  for (int i = 0; i < N; ++i) values[i] = fmaxf(values[i], __shfl_xor_sync(0xffffffff, values[i], distance));
}

on_device float minus_infinity() { return __int_as_float(0xff800000); }
