// A CUDA driver without a GPU: the functions that lhcc/runtime/cuda_driver.py calls, on kernels that were compiled for
// the processor (emulate.h).  Memory ends at a page that must not be touched, and is not a number until it is written.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

typedef int Result;
typedef void (*Run)(void**, int, int, int, int);
struct Kernel { Run run; int arguments; int allowed; };
struct Module { void* library; };
struct Event { std::chrono::steady_clock::time_point at; bool recorded; };
struct Node { Kernel* kernel; unsigned grid[3], block[3], shared; std::vector<uint64_t> values; };
struct Parameters {
  Kernel* kernel;
  unsigned grid[3], block[3], shared;
  void** arguments;
  void *extra, *other, *context;
};
struct Graph { std::vector<Node*> nodes; size_t edges; };
struct Edge { unsigned char from_port, to_port, kind, reserved[5]; };
struct Memory { void* start; size_t size; bool filled, settled, constant; };
struct Executable { std::vector<Node> nodes; std::map<Node*, int> number; };

static std::string calls;  // the names of the functions that were called, a line each, with the stream if there is one
static void note(const char* name, const void* stream = nullptr) {
  calls += name;
  if (stream) calls += " " + std::to_string((uint64_t)stream);
  calls += "\n";
}

static std::map<uint64_t, Memory> memory;
static thread_local bool entered;
static bool initialised;
static int told_version = 13000;
static const Result INVALID = 1, NOT_INITIALISED = 3, NO_CONTEXT = 201, NO_IMAGE = 209, NOT_FOUND = 500;

// Whether a device pointer and so many bytes after it were allocated.
static bool owned(uint64_t pointer, size_t size) {
  auto next = memory.upper_bound(pointer);
  if (next == memory.begin()) return false;
  --next;
  return pointer + size <= next->first + next->second.size + 256;
}

// Whether memory may be touched that kernels write: all but what was filled before the next graph was made.
static void forbid(int forbidden) {
  const size_t page = sysconf(_SC_PAGESIZE);
  for (const auto& [pointer, place] : memory)
    if (!(place.settled ? place.constant : place.filled))
      mprotect(place.start, (place.size + page - 1) / page * page, forbidden ? PROT_NONE : PROT_READ | PROT_WRITE);
}

extern "C" {

// What was called since it was last asked.
const char* noted_calls() {
  static std::string told;
  told.swap(calls);
  calls.clear();
  return told.c_str();
}

void set_version(int version) { told_version = version; }

Result cuInit(unsigned) { return initialised = true, 0; }
Result cuDriverGetVersion(int* version) { return *version = told_version, 0; }
Result cuDeviceGetCount(int* count) { return initialised ? (*count = 1, 0) : NOT_INITIALISED; }
Result cuDeviceGet(int* device, int index) { return index ? INVALID : (*device = 0, 0); }
Result cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "emulated"), 0; }
Result cuDevicePrimaryCtxRetain(void** context, int) { return *context = &memory, 0; }
Result cuCtxSetCurrent(void* context) { return entered = context == &memory, entered ? 0 : INVALID; }
Result cuGetErrorName(int number, const char** name) {
  static char text[32];
  snprintf(text, sizeof text, "FAKE_ERROR_%d", number);
  return *name = text, 0;
}

Result cuDeviceGetAttribute(int* value, int number, int) {
  const std::map<int, int> known = {{13, 1000000}, {16, 2}, {36, 1000000}, {37, 256}, {75, 9}, {76, 0}};
  return known.count(number) ? (*value = known.at(number), 0) : INVALID;
}

Result cuMemAlloc_v2(uint64_t* pointer, size_t size) {
  note("cuMemAlloc_v2");
  if (!entered) return NO_CONTEXT;
  const size_t page = sysconf(_SC_PAGESIZE), used = (size + 255) / 256 * 256, whole = (used + page - 1) / page * page;
  char* start = (char*)mmap(0, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(start + whole, page, PROT_NONE);
  memset(start, 0xff, whole);
  *pointer = (uint64_t)(start + whole - used);
  memory[*pointer] = {start, used, false, false, false};
  return 0;
}

Result cuMemFree_v2(uint64_t pointer) {
  note("cuMemFree_v2");
  if (!memory.count(pointer)) return INVALID;
  const auto [start, size, filled, settled, constant] = memory[pointer];
  const size_t page = sysconf(_SC_PAGESIZE);
  munmap(start, (size + page - 1) / page * page + page);
  memory.erase(pointer);
  return 0;
}

Result cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void* stream) {
  note("cuMemcpyHtoDAsync_v2", stream);
  if (memory.count(to)) memory[to].filled = true;
  return owned(to, size) ? (memcpy((void*)to, from, size), 0) : INVALID;
}
Result cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void* stream) {
  note("cuMemcpyDtoHAsync_v2", stream);
  return owned(from, size) ? (memcpy(to, (void*)from, size), 0) : INVALID;
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void* stream) {
  note("cuMemcpyDtoDAsync_v2", stream);
  return owned(to, size) && owned(from, size) ? (memcpy((void*)to, (void*)from, size), 0) : INVALID;
}
Result cuMemsetD8Async(uint64_t to, unsigned char byte, size_t size, void*) {
  return owned(to, size) ? (memset((void*)to, byte, size), 0) : INVALID;
}

// Code is the path of a library, behind a word that says so.
Result cuModuleLoadData(Module** module, const char* code) {
  note("cuModuleLoadData");
  if (strncmp(code, "emulated:", 9)) return NO_IMAGE;
  void* library = dlopen(code + 9, RTLD_NOW | RTLD_LOCAL);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), NO_IMAGE;
  *(void (**)(int))dlsym(library, "lhcc_forbid") = forbid;
  return *module = new Module{library}, 0;
}
Result cuModuleUnload(Module* module) { return delete module, 0; }

Result cuModuleGetFunction(Kernel** kernel, Module* module, const char* name) {
  void* run = dlsym(module->library, ("run_" + std::string(name)).c_str());
  void* count = dlsym(module->library, ("arguments_" + std::string(name)).c_str());
  if (!run || !count) return NOT_FOUND;
  return *kernel = new Kernel{(Run)run, *(int*)count, 48 << 10}, 0;
}

Result cuFuncSetAttribute(Kernel* kernel, int attribute, int value) {
  if (attribute != 8 || value > 227 << 10) return INVALID;
  return kernel->allowed = value, 0;
}

static Result start(Kernel* kernel, const unsigned* grid, const unsigned* block, unsigned shared, void** arguments) {
  if ((int)shared > kernel->allowed || grid[2] != 1 || block[1] != 1 || block[2] != 1 || grid[1] > 65535) return INVALID;
  for (int i = 0; i < kernel->arguments; ++i)
    if (!owned(*(uint64_t*)arguments[i], 1)) return INVALID;
  kernel->run(arguments, grid[0], grid[1], block[0], shared);
  return 0;
}

Result cuLaunchKernel(Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void* stream, void** arguments, void**) {
  note("cuLaunchKernel", stream);
  const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
  return start(kernel, grid, block, shared, arguments);
}

Result cuStreamCreate(void** stream, unsigned) { return *stream = malloc(1), 0; }
Result cuStreamSynchronize(void* stream) {
  note("cuStreamSynchronize", stream);
  return 0;
}
Result cuStreamWaitEvent(void* stream, Event*, unsigned) {
  note("cuStreamWaitEvent", stream);
  return 0;
}
Result cuEventCreate(Event** event, unsigned) { return *event = new Event{{}, false}, 0; }
Result cuEventRecord(Event* event, void* stream) {
  note("cuEventRecord", stream);
  *event = {std::chrono::steady_clock::now(), true};
  return 0;
}
Result cuEventElapsedTime(float* ms, Event* first, Event* second) {
  if (!first->recorded || !second->recorded) return INVALID;
  return *ms = std::chrono::duration<float, std::milli>(second->at - first->at).count(), 0;
}

static Node filled(const Parameters& from) {
  Node node{from.kernel, {}, {}, from.shared, {}};
  memcpy(node.grid, from.grid, sizeof node.grid);
  memcpy(node.block, from.block, sizeof node.block);
  for (int i = 0; i < from.kernel->arguments; ++i) node.values.push_back(*(uint64_t*)from.arguments[i]);
  return node;
}

Result cuGraphCreate(Graph** graph, unsigned) { return *graph = new Graph{{}, 0}, 0; }
Result cuGraphDestroy(Graph* graph) { return delete graph, 0; }
Result cuGraphAddKernelNode_v2(Node** node, Graph* graph, Node** before, size_t count, const Parameters* parameters) {
  note("cuGraphAddKernelNode_v2");
  if (count > 1 || (count && *before != graph->nodes.back())) return INVALID;
  graph->edges += count;
  graph->nodes.push_back(*node = new Node(filled(*parameters)));
  return 0;
}
// A kernel that may begin when all blocks of the one before it have begun.
Result cuGraphAddDependencies_v2(Graph* graph, Node** from, Node** to, const Edge* edge, size_t count) {
  note("cuGraphAddDependencies_v2");
  const auto& nodes = graph->nodes;
  const Edge known = {1, 0, 1, {0, 0, 0, 0, 0}};
  if (count != 1 || nodes.size() < 2 || memcmp(edge, &known, sizeof known)) return INVALID;
  if (*to != nodes.back() || *from != nodes[nodes.size() - 2]) return INVALID;
  return ++graph->edges, 0;
}
Result cuGraphInstantiateWithFlags(Executable** executable, Graph* graph, uint64_t) {
  note("cuGraphInstantiateWithFlags");
  if (graph->edges + 1 != graph->nodes.size()) return INVALID;
  for (auto& [pointer, place] : memory)
    if (!place.settled) place.constant = place.filled, place.settled = true;
  *executable = new Executable;
  for (Node* node : graph->nodes) {
    (*executable)->number[node] = (*executable)->nodes.size();
    (*executable)->nodes.push_back(*node);
  }
  return 0;
}
Result cuGraphExecKernelNodeSetParams_v2(Executable* executable, Node* node, const Parameters* parameters) {
  note("cuGraphExecKernelNodeSetParams_v2");
  if (!executable->number.count(node)) return INVALID;
  executable->nodes[executable->number[node]] = filled(*parameters);
  return 0;
}
Result cuGraphExecDestroy(Executable* executable) { return delete executable, 0; }
Result cuGraphLaunch(Executable* executable, void* stream) {
  note("cuGraphLaunch", stream);
  for (Node& node : executable->nodes) {
    std::vector<void*> arguments;
    for (uint64_t& value : node.values) arguments.push_back(&value);
    if (Result fault = start(node.kernel, node.grid, node.block, node.shared, arguments.data())) return fault;
  }
  return 0;
}

}  // extern "C"
