// The part of libcuda.so that edgeclip uses, on the host: device memory is host memory, streams run at once, capture
// records what was enqueued, and launching a kernel runs resize.cu thread by thread. It counts what is alive and fails
// where it is told to. What a real driver adds (concurrency, other address spaces) it cannot show.
#include "host_cuda.h"
#include RESIZE_CU
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

typedef unsigned long long Device;
typedef std::vector<std::function<void()>> Work;
struct Stream { bool capturing = false; Work recorded; };

static std::map<std::string, int> alive;
static std::string failing;
static int failure = 0, launches = 0;
static thread_local void* current = nullptr;
static int context;

static int enqueue(Stream* stream, std::function<void()> work) {
    if (stream->capturing) stream->recorded.push_back(work);
    else work();
    return 0;
}

#define BEGIN(name) if (failing == name) return failure
#define NEEDS_CONTEXT if (current != &context) return 201

extern "C" {
int host_alive(const char* what) { return alive[what]; }
int host_graph_launches() { return launches; }
void host_fail(const char* name, int code) { failing = name; failure = code; }
typedef void (*Callback)(void);
int host_enqueue(void* stream, Callback work) { return enqueue((Stream*)stream, [work] { work(); }); }

int cuInit(unsigned) { BEGIN("cuInit"); return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int) { *device = 0; return 0; }
int cuDeviceGetName(char* name, int size, int) { strncpy(name, "Host", size); return 0; }
int cuDeviceGetAttribute(int* value, int which, int) { *value = which == 75 ? 8 : 7; return 0; }
int cuDevicePrimaryCtxRetain(void** out, int) { *out = &context; return 0; }
int cuCtxSetCurrent(void* given) { current = given; return 0; }
int cuMemAlloc_v2(Device* out, size_t size) {
    NEEDS_CONTEXT; BEGIN("cuMemAlloc_v2");
    *out = (Device)malloc(size); alive["memory"]++; return 0;
}
int cuMemFree_v2(Device address) { NEEDS_CONTEXT; free((void*)address); alive["memory"]--; return 0; }
int cuMemHostAlloc(void** out, size_t size, unsigned) {
    NEEDS_CONTEXT; BEGIN("cuMemHostAlloc");
    *out = malloc(size); alive["pinned"]++; return 0;
}
int cuMemHostGetDevicePointer_v2(Device* out, void* host, unsigned) { *out = (Device)host; return 0; }
int cuMemFreeHost(void* memory) { NEEDS_CONTEXT; free(memory); alive["pinned"]--; return 0; }
int cuMemcpyHtoDAsync_v2(Device to, const void* from, size_t size, void* stream) {
    NEEDS_CONTEXT;
    return enqueue((Stream*)stream, [=] { memcpy((void*)to, from, size); });
}
int cuMemcpyDtoHAsync_v2(void* to, Device from, size_t size, void* stream) {
    NEEDS_CONTEXT;
    return enqueue((Stream*)stream, [=] { memcpy(to, (void*)from, size); });
}
int cuStreamCreate(void** out, unsigned) { NEEDS_CONTEXT; *out = new Stream; alive["stream"]++; return 0; }
int cuStreamSynchronize(void*) { NEEDS_CONTEXT; BEGIN("cuStreamSynchronize"); return 0; }
int cuStreamDestroy_v2(void* stream) { delete (Stream*)stream; alive["stream"]--; return 0; }
int cuStreamBeginCapture_v2(void* stream, int) {
    BEGIN("cuStreamBeginCapture_v2");
    ((Stream*)stream)->capturing = true; ((Stream*)stream)->recorded.clear(); return 0;
}
int cuStreamEndCapture(void* stream, void** graph) {
    ((Stream*)stream)->capturing = false;
    *graph = new Work(((Stream*)stream)->recorded); alive["graph"]++; return 0;
}
int cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
    BEGIN("cuGraphInstantiateWithFlags");
    *out = new Work(*(Work*)graph); alive["executable"]++; return 0;
}
int cuGraphLaunch(void* executable, void*) {
    NEEDS_CONTEXT;
    launches++; for (auto& work : *(Work*)executable) work();
    return 0;
}
int cuGraphExecDestroy(void* executable) { delete (Work*)executable; alive["executable"]--; return 0; }
int cuGraphDestroy(void* graph) { delete (Work*)graph; alive["graph"]--; return 0; }
int cuModuleLoadData(void** out, const char*) { NEEDS_CONTEXT; BEGIN("cuModuleLoadData"); *out = &context; alive["module"]++; return 0; }
int cuModuleGetFunction(void** out, void*, const char* name) {
    if (strcmp(name, "edgeclip_resize")) return 500;
    *out = (void*)edgeclip_resize; return 0;
}
int cuModuleUnload(void*) { alive["module"]--; return 0; }
int cuLaunchKernel(void*, unsigned gx, unsigned gy, unsigned, unsigned bx, unsigned by, unsigned, unsigned, void*,
                   void** p, void**) {
    NEEDS_CONTEXT; BEGIN("cuLaunchKernel");
    blockDim = {(int)bx, (int)by, 1};
    for (unsigned y = 0; y < gy; y++) for (unsigned x = 0; x < gx; x++)
        for (unsigned v = 0; v < by; v++) for (unsigned u = 0; u < bx; u++) {
            blockIdx = {(int)x, (int)y, 0}; threadIdx = {(int)u, (int)v, 0};
            edgeclip_resize(*(const unsigned char**)p[0], *(int*)p[1], *(const int**)p[2], *(const float**)p[3],
                            *(int*)p[4], *(const int**)p[5], *(const float**)p[6], *(int*)p[7],
                            *(unsigned char**)p[8], *(int*)p[9], *(int*)p[10]);
        }
    return 0;
}
int cuGetErrorName(int code, const char** out) { *out = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
int cuGetErrorString(int, const char** out) { *out = "in the host's words"; return 0; }
}
