/* A delegate compiled against the structures of one generation of TensorFlow Lite's C API (tflite.h of the lab), for the
 * proof of which runtime can load it (prove.py).
 *
 * The registration is handed over by value. A runtime that was compiled against a longer structure reads what happens to be
 * behind a shorter one: the stack of its caller. Here every bit of that is one, so that the read shows in every run: as an
 * address it ends the process, as flags of `inplace_operator` it says that the output may lie in the input's memory, and
 * this delegate's operation, which reverses its input, comes out wrong. The same lies behind TfLiteDelegate.
 */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define OPERATION "edgetpu-custom-op"

#include "tflite.h"

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
