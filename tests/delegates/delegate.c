/* A delegate compiled against the structures of one generation of TensorFlow Lite's C API (tensorflow/lite/core/c/common.h,
 * before 2.12 tensorflow/lite/c/common.h), for the proof of which runtime can load it (prove.py).
 *
 * TfLiteRegistration ended with `version` first; `registration_external`, `async_kernel` and `inplace_operator` were appended
 * since, in this order: FIELDS says how many of them this delegate has. TfLiteDelegate ends with `flags`, as it did first;
 * `opaque_delegate_builder` was appended to it.
 *
 * The registration is handed over by value. A runtime that was compiled against a longer structure reads what happens to be
 * behind a shorter one: the stack of its caller. Here every bit of that is one, so that the read shows in every run: as an
 * address it ends the process, as flags of `inplace_operator` it says that the output may lie in the input's memory, and
 * this delegate's operation, which reverses its input, comes out wrong. The same lies behind TfLiteDelegate.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define OPERATION "edgetpu-custom-op"

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
typedef struct { IntArray *inputs, *outputs; } Node; /* its first fields */

typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    Status (*prepare)(Context *, Node *);
    Status (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
} First; /* the registration of the first generation */
typedef struct {
    First first;
    uint64_t appended[FIELDS];
    uint64_t behind[8];
} Registration;

struct Delegate {
    void *data;
    Status (*Prepare)(Context *, Delegate *);
    Status (*CopyFromBufferHandle)(Context *, Delegate *, int, Tensor *);
    Status (*CopyToBufferHandle)(Context *, Delegate *, int, Tensor *);
    void (*FreeBufferHandle)(Context *, Delegate *, int *);
    int64_t flags;
    uint64_t behind[8];
};
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

static Status invoke(Context *context, Node *node) {
    const Tensor *in = &context->tensors[node->inputs->data[0]], *out = &context->tensors[node->outputs->data[0]];
    const int32_t *from = in->data;
    int32_t *to = out->data;
    size_t count = in->bytes / sizeof *to;
    for (size_t i = 0; i < count; i++) to[i] = from[count - 1 - i];
    return kOk;
}

/* The size of the runtime's own TfLiteRegistration: it keeps nodes in pairs with their registrations, one after the other. */
EXPORT size_t registration_size = 0;

static Status prepare(Context *context, Delegate *delegate) {
    IntArray *plan;
    Registration registration;
    int mine[64] = {0};
    char *before = NULL;
    if (context->GetExecutionPlan(context, &plan) != kOk || plan->size > 60) return kError;
    for (int i = 0; i < plan->size; i++) {
        Node *node;
        First *first;
        if (context->GetNodeAndRegistration(context, plan->data[i], &node, &first) != kOk) return kError;
        if (before) registration_size = (size_t)((char *)node - before);
        before = (char *)first;
        if (first->custom_name && !strcmp(first->custom_name, OPERATION)) mine[++mine[0]] = plan->data[i];
    }
    memset(&registration, 0xff, sizeof registration);
    registration.first = (First){.invoke = invoke, .custom_name = "Proof", .version = 1};
    memset(registration.appended, 0, sizeof registration.appended);
    return context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, (IntArray *)mine, delegate);
}

EXPORT Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    (void)keys, (void)values, (void)count, (void)report;
    Delegate *delegate = malloc(sizeof *delegate);
    memset(delegate, 0xff, sizeof *delegate);
    memset(delegate, 0, offsetof(Delegate, behind));
    delegate->Prepare = prepare;
    delegate->flags = 1; /* the rest of the graph may have tensors of any size */
    return delegate;
}

EXPORT void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
