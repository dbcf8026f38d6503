/* The structures of TensorFlow Lite's C API (tensorflow/lite/core/c/common.h, before 2.12 tensorflow/lite/c/common.h) that a
 * delegate needs, of the generation FIELDS; used by libedgetpu.c and by tests/delegates.
 *
 * TfLiteRegistration ended with `version` first; `registration_external`, `async_kernel` and `inplace_operator` were appended
 * since, in this order: FIELDS says how many of them a delegate has. TfLiteDelegate ends with `flags`, as it did first;
 * `opaque_delegate_builder` was appended to it. What a newer runtime reads behind either is `behind`.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { kOk = 0, kError = 1 } Status;
typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
    int type;
    void *data;
    IntArray *dims;
    struct { float scale; int32_t zero_point; } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    Delegate *delegate;
    int buffer_handle;
    bool data_is_stale, is_variable;
    struct { int type; void *params; } quantization;
    void *sparsity;
    const IntArray *dims_signature;
} Tensor;
typedef struct {
    IntArray *inputs, *outputs, *intermediates, *temporaries;
    void *user_data, *builtin_data;
    const void *custom_initial_data;
    int custom_initial_data_size;
    Delegate *delegate;
    bool might_have_side_effect;
} Node;
typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    Status (*prepare)(Context *, Node *);
    Status (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
} First; /* the registration of the first generation, with which every later one begins */
typedef struct {
    First first;
    uint64_t appended[FIELDS];
    uint64_t behind[8];
} Registration;
struct Context {
    size_t tensors_size;
    Status (*GetExecutionPlan)(Context *, IntArray **);
    Tensor *tensors;
    void *impl;
    Status (*ResizeTensor)(Context *, Tensor *, IntArray *);
    void (*ReportError)(Context *, const char *, ...);
    Status (*AddTensors)(Context *, int, int *);
    Status (*GetNodeAndRegistration)(Context *, int, Node **, First **);
    Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, Delegate *);
};
struct Delegate {
    void *data;
    Status (*Prepare)(Context *, Delegate *);
    Status (*CopyFromBufferHandle)(Context *, Delegate *, int, Tensor *);
    Status (*CopyToBufferHandle)(Context *, Delegate *, int, Tensor *);
    void (*FreeBufferHandle)(Context *, Delegate *, int *);
    int64_t flags;
    uint64_t behind[8];
};
