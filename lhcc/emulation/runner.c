/* Runs the kernels of an artifact by its memory plan, without Python and without the TVM runtime.
 *
 *     runner kernels.so plan weights inputs outputs
 *
 * It is what QEMU runs in place of the board's Python: the machine code is the artifact's own.  The plan is text:
 *
 *     sizes    of the weights and of the arena
 *     inputs   their number, then the bytes of each; outputs likewise
 *     calls    their number, then per call: kernel, operands; and per operand: memory, place, type, shape
 *     copies   their number, then per copy: memory, place, output, bytes
 *
 * Between the calls it closes a file that was never open: the instruction counter sees these system calls and nobody
 * else minds them.  Parallel loops run one part after the other, so that counts repeat exactly.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGNMENT = 64, TENSOR = 7, MOST_OPERANDS = 64, MOST_BUFFERS = 1024, MARK = 0x6c68636b };

typedef struct { int32_t device_type, device_id; } Device;
typedef struct { uint8_t code, bits; uint16_t lanes; } DataType;
typedef struct {  /* DLPack's tensor */
    void *data;
    Device device;
    int32_t ndim;
    DataType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} Tensor;
typedef struct { int32_t kind; uint32_t padding; union { int64_t number; void *pointer; } value; } Any;
typedef int (*Kernel)(void *self, const Any *args, int32_t count, Any *result);
typedef struct { Kernel kernel; char name[256]; int count; Tensor operands[MOST_OPERANDS]; Any args[MOST_OPERANDS]; } Call;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "lhcc runner: %s %s\n", what, which);
    exit(3);
}

static void *allocate(uint64_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, size ? size : ALIGNMENT)) fail("no memory", "");
    memset(memory, 0xA5, size);  /* nothing may depend on what memory holds before */
    return memory;
}

static void transfer(const char *path, int writes, void **buffers, const uint64_t *sizes, int count) {
    FILE *file = fopen(path, writes ? "wb" : "rb");
    if (!file) fail("cannot open", path);
    for (int i = 0; i < count; i++) {
        size_t done = writes ? fwrite(buffers[i], 1, sizes[i], file) : fread(buffers[i], 1, sizes[i], file);
        if (done != sizes[i]) fail(writes ? "cannot write" : "too short:", path);
    }
    if (fclose(file)) fail("cannot write", path);
}

/* ---- what kernels ask of the runtime */

typedef struct { void *sync_handle; int32_t num_task; } Group;

static int parallel_launch(int (*part)(int, Group *, void *), void *data, int tasks) {
    Group group = {NULL, tasks > 0 ? tasks : 1};
    for (int i = 0; i < group.num_task; i++) {
        int failed = part(i, &group, data);
        if (failed) return failed;
    }
    return 0;
}

static void *allocate_workspace(int type, int id, uint64_t size, int code, int bits) {
    (void)type, (void)id, (void)code, (void)bits;
    return allocate(size);
}

static int free_workspace(int type, int id, void *memory) {
    (void)type, (void)id;
    free(memory);
    return 0;
}

static void raised(const char *kind, const char *message) { fail(kind, message); }

static void offer(void *library, const char *name, void *function) {
    void **slot = dlsym(library, name);
    if (slot) *slot = function;
}

/* ---- the plan */

static int number(FILE *plan) {
    int value;
    if (fscanf(plan, "%d", &value) != 1) fail("the plan ends early", "");
    return value;
}

static uint64_t wide(FILE *plan) {
    unsigned long long value;
    if (fscanf(plan, "%llu", &value) != 1) fail("the plan ends early", "");
    return value;
}

static void **memories[4];  /* inputs, outputs, weights, arena */
static int memory_counts[4];

static void *place(FILE *plan) {
    char kind[16];
    if (fscanf(plan, "%15s", kind) != 1) fail("the plan ends early", "");
    static const char *kinds[] = {"input", "output", "weights", "arena"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(kind, kinds[i])) continue;
        uint64_t at = wide(plan);
        if (i >= 2) return (char *)memories[i][0] + at;
        if (at >= (uint64_t)memory_counts[i]) fail("there is no such", kind);
        return memories[i][at];
    }
    fail("unknown memory", kind);
    return NULL;
}

static void read_call(FILE *plan, void *library, Call *call) {
    char symbol[300];
    if (fscanf(plan, "%255s", call->name) != 1) fail("the plan ends early", "");
    snprintf(symbol, sizeof symbol, "__tvm_ffi_%s", call->name);
    *(void **)&call->kernel = dlsym(library, symbol);
    if (!call->kernel) fail("there is no kernel", call->name);
    call->count = number(plan);
    if (call->count > MOST_OPERANDS) fail("too many operands for", call->name);
    for (int i = 0; i < call->count; i++) {
        Tensor *tensor = &call->operands[i];
        memset(tensor, 0, sizeof *tensor);
        tensor->data = place(plan);
        tensor->device.device_type = 1;
        tensor->dtype.code = (uint8_t)number(plan);
        tensor->dtype.bits = (uint8_t)number(plan);
        tensor->dtype.lanes = 1;
        tensor->ndim = number(plan);
        tensor->shape = allocate(2 * sizeof(int64_t) * (size_t)(tensor->ndim + 1));
        tensor->strides = tensor->shape + tensor->ndim + 1;
        int64_t stride = 1;
        for (int d = 0; d < tensor->ndim; d++) tensor->shape[d] = number(plan);
        for (int d = tensor->ndim - 1; d >= 0; stride *= tensor->shape[d--]) tensor->strides[d] = stride;
        call->args[i].kind = TENSOR;
        call->args[i].padding = 0;
        call->args[i].value.number = 0;
        call->args[i].value.pointer = tensor;
    }
}

int main(int argc, char **argv) {
    if (argc != 6) fail("usage: runner kernels.so plan weights inputs outputs", "");
    void *library = *argv[1] ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (*argv[1] && !library) fail("cannot load the kernels:", dlerror());
    FILE *plan = fopen(argv[2], "r");
    if (!plan) fail("cannot open", argv[2]);
    if (library) {
        offer(library, "__TVMBackendParallelLaunch", (void *)parallel_launch);
        offer(library, "__TVMBackendAllocWorkspace", (void *)allocate_workspace);
        offer(library, "__TVMBackendFreeWorkspace", (void *)free_workspace);
        offer(library, "__TVMFFIErrorSetRaisedFromCStr", (void *)raised);
    }

    uint64_t sizes[2] = {wide(plan), wide(plan)}, *sized[2];
    void *weights = allocate(sizes[0]), *arena = allocate(sizes[1]);
    transfer(argv[3], 0, &weights, sizes, 1);
    memories[2] = &weights, memories[3] = &arena;
    for (int kind = 0; kind < 2; kind++) {
        memory_counts[kind] = number(plan);
        if (memory_counts[kind] > MOST_BUFFERS) fail("too many inputs or outputs", "");
        memories[kind] = allocate(sizeof(void *) * MOST_BUFFERS);
        sized[kind] = allocate(sizeof(uint64_t) * MOST_BUFFERS);
        for (int i = 0; i < memory_counts[kind]; i++) {
            sized[kind][i] = wide(plan);
            memories[kind][i] = allocate(sized[kind][i]);
        }
    }
    transfer(argv[4], 0, memories[0], sized[0], memory_counts[0]);

    int count = number(plan);
    Call *calls = allocate(sizeof(Call) * (size_t)(count + 1));
    for (int i = 0; i < count; i++) read_call(plan, library, &calls[i]);

    close(MARK);  /* twice: what lies between two marks is what marking costs */
    close(MARK);
    for (int i = 0; i < count; i++) {
        Any result = {0, 0, {0}};
        if (calls[i].kernel(NULL, calls[i].args, calls[i].count, &result)) fail("a failure in", calls[i].name);
        close(MARK);
    }
    for (int i = number(plan); i > 0; i--) {
        const void *source = place(plan);
        int output = number(plan);
        memcpy(memories[1][output], source, wide(plan));
    }
    fclose(plan);
    transfer(argv[5], 1, memories[1], sized[1], memory_counts[1]);
    return 0;
}
