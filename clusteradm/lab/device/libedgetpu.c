/* libedgetpu.so.1 of the lab: the exported names of the real library, for an Edge TPU that is simulated as a device.
 *
 * The device is a process outside the virtual board, behind SOCKETS/apex_N.sock (see device.py, which has the other end of
 * the protocol). This library does what the real one does on the board's side: it lists /sys/class/apex, opens
 * /dev/apex_N under the caller's own rights, and runs the nodes named edgetpu-custom-op on the device.
 *
 * The few TFLite structures that it needs are in tflite.h. As a library that was rebuilt for newer runtimes, this one passes
 * zeros in the fields that these have appended. With OLD_STRUCTURES it is one of the time before, as Google's 16.0: what a
 * newer runtime reads there is what happens to lie on the stack, here ones in every bit, so that it happens each time.
 *
 * It is compiled on the lab's machine, which may have a newer C library than its boards: no name in here may be newer than
 * theirs. (The strtoul and sscanf of glibc 2.38 are.)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#ifndef SOCKETS
#define SOCKETS "/run/clusteradm-lab/tpu"
#define CLASS "/sys/class/apex"
#define DEV "/dev"
#define USB "/sys/bus/usb/devices"
#endif
#ifndef USB
#define USB CLASS "/no-usb"
#endif
#define MAX_DEVICES 64
#define MAX_TENSORS 32

/* The structures' generation: with all appended fields, or of the time before them. */
#ifdef OLD_STRUCTURES
#define FIELDS 0
#else
#define FIELDS 3
#endif
#include "tflite.h"

typedef struct { Delegate *delegate; IntArray *nodes_to_replace, *input_tensors, *output_tensors; } DelegateParams;

/* ---- the device ---- */

typedef struct { int type; const char *path; } edgetpu_device; /* type 0: PCIe, 1: USB (libedgetpu's edgetpu_c.h) */
typedef struct { char *name, *value; } edgetpu_option;

/* Every message in both directions; `length` bytes follow it. device.py knows the same layout. */
typedef struct { char op; char pad[3]; uint32_t model; uint64_t length; } Header;

/* One opened device. A process that asks for it twice shares it, as with the real library. */
typedef struct { char path[256]; int node, socket, users; pthread_mutex_t turn; } Device;
static Device devices[MAX_DEVICES];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

typedef struct { Device *device; uint32_t model; int inputs, outputs, tensor[MAX_TENSORS]; } Kernel;

static int transfer(int fd, struct iovec *part, int parts, ssize_t (*move)(int, struct msghdr *, int), int flags) {
    while (parts) {
        struct msghdr message = {.msg_iov = part, .msg_iovlen = (size_t)parts};
        ssize_t n = move(fd, &message, flags);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        for (; parts && (size_t)n >= part->iov_len; part++, parts--) n -= (ssize_t)part->iov_len;
        if (parts) part->iov_base = (char *)part->iov_base + n, part->iov_len -= (size_t)n;
    }
    return 0;
}
static ssize_t put(int fd, struct msghdr *m, int flags) { return sendmsg(fd, m, flags); }
static int transmit(int fd, struct iovec *part, int parts) { return transfer(fd, part, parts, put, MSG_NOSIGNAL); }
static int receive(int fd, struct iovec *part, int parts) { return transfer(fd, part, parts, recvmsg, MSG_WAITALL); }

/* The text of a file of a USB device; empty where there is none. */
static const char *text_of(const char *path, const char *file, char text[16]) {
    char name[320];
    ssize_t got = 0;
    snprintf(name, sizeof name, "%s/%s", path, file);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) got = read(fd, text, 15), close(fd);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* The device node of a device of the list, and the name of its socket. */
static void places_of(const char *path, char node[256], char name[128]) {
    char bus[16], number[16];
    const char *last = strrchr(path, '/') + 1;
    if (strncmp(path, USB "/", sizeof USB)) {
        snprintf(node, 256, "%s", path), snprintf(name, 128, "%s", last);
        return;
    }
    snprintf(node, 256, "%s/bus/usb/%03d/%03d", DEV, atoi(text_of(path, "busnum", bus)), atoi(text_of(path, "devnum", number)));
    snprintf(name, 128, "usb-%s", last);
}

static Device *open_device(const char *path) {
    Device *found = NULL, *free_place = NULL;
    pthread_mutex_lock(&table);
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (devices[i].users && !strcmp(devices[i].path, path)) found = &devices[i];
        if (!devices[i].users && !free_place) free_place = &devices[i];
    }
    if (found) {
        found->users++;
    } else if (free_place && strlen(path) < sizeof free_place->path) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct timeval limit = {12, 0}, none = {0, 0}; /* the driver's own limit for waking a chip */
        char greeting = 0, node_path[256], name[128];
        places_of(path, node_path, name);
        int node = open(node_path, O_RDWR | O_CLOEXEC); /* mode and group of the device node decide */
        int fd = node < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char *place = NULL;
        bool fits = asprintf(&place, "%s/%s.sock", SOCKETS, name) >= 0 && strlen(place) < sizeof address.sun_path;
        if (fits) strcpy(address.sun_path, place);
        free(place);
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (fd >= 0 && fits && !connect(fd, (struct sockaddr *)&address, sizeof address) && recv(fd, &greeting, 1, 0) == 1 &&
            greeting == 'R') {
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none); /* a wedged TPU hangs its caller */
            found = free_place;
            strcpy(found->path, path);
            found->node = node, found->socket = fd, found->users = 1;
            pthread_mutex_init(&found->turn, NULL);
        } else {
            if (fd >= 0) close(fd);
            if (node >= 0) close(node);
        }
    }
    pthread_mutex_unlock(&table);
    return found;
}

static void close_device(Device *device) {
    pthread_mutex_lock(&table);
    if (!--device->users) close(device->socket), close(device->node);
    pthread_mutex_unlock(&table);
}

/* Send the model that the lab's compiler put into the node's options; 0 is no model. */
static uint32_t load_model(Device *device, const char *options, size_t size) {
    const char *package = size ? memmem(options, size, "LABTPU1", 8) : NULL;
    uint64_t length = 0;
    Header head = {.op = 'L'};
    if (package && package + 16 <= options + size) memcpy(&length, package + 8, 8);
    if (!length || length > (uint64_t)(options + size - (package + 16))) {
        fprintf(stderr, "libedgetpu (SIMULATED): this model was not compiled for the lab's Edge TPU; "
                        "make it with: clusteradm lab compile-model\n");
        return 0;
    }
    head.length = length;
    struct iovec out[2] = {{&head, sizeof head}, {(void *)(package + 16), length}}, in[1] = {{&head, sizeof head}};
    pthread_mutex_lock(&device->turn);
    int failed = transmit(device->socket, out, 2) || receive(device->socket, in, 1);
    pthread_mutex_unlock(&device->turn);
    return failed || head.op != 'K' ? 0 : head.model;
}

/* ---- the delegate ---- */

static void *kernel_init(Context *context, const char *buffer, size_t length) {
    (void)length;
    const DelegateParams *params = (const void *)buffer;
    Node *node;
    First *registration;
    Kernel *kernel = calloc(1, sizeof *kernel);
    kernel->device = params->delegate->data;
    if (params->nodes_to_replace->size != 1 ||
        context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node, &registration) != kOk ||
        node->inputs->size + node->outputs->size > MAX_TENSORS)
        return kernel;
    /* The node's own order of tensors: the delegate's node may have another one. */
    for (int i = 0; i < node->inputs->size; i++) kernel->tensor[kernel->inputs++] = node->inputs->data[i];
    for (int i = 0; i < node->outputs->size; i++) kernel->tensor[kernel->inputs + kernel->outputs++] = node->outputs->data[i];
    kernel->model = load_model(kernel->device, node->custom_initial_data, (size_t)node->custom_initial_data_size);
    return kernel;
}

static void kernel_free(Context *context, void *kernel) { (void)context, free(kernel); }

static Status kernel_prepare(Context *context, Node *node) {
    (void)context;
    return ((Kernel *)node->user_data)->model ? kOk : kError;
}

static Status kernel_invoke(Context *context, Node *node) {
    const Kernel *kernel = node->user_data;
    Header head = {.op = 'I', .model = kernel->model}, answer;
    struct iovec out[MAX_TENSORS + 1] = {{&head, sizeof head}}, in[MAX_TENSORS + 1] = {{&answer, sizeof answer}};
    uint64_t expected = 0;
    for (int i = 0; i < kernel->inputs; i++) {
        Tensor *tensor = &context->tensors[kernel->tensor[i]];
        out[i + 1] = (struct iovec){tensor->data, tensor->bytes};
        head.length += tensor->bytes;
    }
    for (int i = 0; i < kernel->outputs; i++) {
        Tensor *tensor = &context->tensors[kernel->tensor[kernel->inputs + i]];
        in[i + 1] = (struct iovec){tensor->data, tensor->bytes};
        expected += tensor->bytes;
    }
    pthread_mutex_lock(&kernel->device->turn);
    int failed = transmit(kernel->device->socket, out, kernel->inputs + 1) ||
                 receive(kernel->device->socket, in, kernel->outputs + 1);
    pthread_mutex_unlock(&kernel->device->turn);
    return failed || answer.op != 'O' || answer.length != expected ? kError : kOk;
}

static Status delegate_prepare(Context *context, Delegate *delegate) {
    IntArray *plan;
    if (context->GetExecutionPlan(context, &plan) != kOk) return kError;
    int *mine = malloc(sizeof(int) * (size_t)(plan->size + 1)), count = 0;
    for (int i = 0; i < plan->size; i++) {
        Node *node;
        First *registration;
        if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != kOk) continue;
        if (registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op"))
            mine[++count] = plan->data[i];
    }
    mine[0] = count;
    Registration registration = {.first = {
        .init = kernel_init, .free = kernel_free, .prepare = kernel_prepare, .invoke = kernel_invoke,
        .custom_name = "EdgeTpuDelegateForCustomOp", .version = 1,
    }};
#ifdef OLD_STRUCTURES
    memset(registration.behind, 0xff, sizeof registration.behind);
#endif
    Status status = kOk;
    if (count)
        status = context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, (IntArray *)mine, delegate);
    free(mine);
    return status;
}

/* ---- the exported names ---- */

static int by_name(const void *a, const void *b) {
    const edgetpu_device *one = a, *other = b;
    return one->type != other->type ? one->type - other->type : strverscmp(one->path, other->path);
}

/* The accelerators on USB behind those on PCI. */
static void list_usb(edgetpu_device *list, size_t *count) {
    DIR *folder = opendir(USB);
    for (struct dirent *entry; folder && *count < MAX_DEVICES && (entry = readdir(folder));) {
        char *path, vendor[16], product[16];
        if (entry->d_name[0] == '.' || asprintf(&path, "%s/%s", USB, entry->d_name) < 0) continue;
        text_of(path, "idVendor", vendor), text_of(path, "idProduct", product);
        if ((strcmp(vendor, "1a6e") || strcmp(product, "089a")) && (strcmp(vendor, "18d1") || strcmp(product, "9302"))) {
            free(path);
            continue;
        }
        list[*count].type = 1, list[(*count)++].path = path;
    }
    if (folder) closedir(folder);
}

EXPORT edgetpu_device *edgetpu_list_devices(size_t *count) {
    edgetpu_device *list = calloc(MAX_DEVICES, sizeof *list);
    DIR *folder = opendir(CLASS);
    *count = 0;
    for (struct dirent *entry; folder && *count < MAX_DEVICES && (entry = readdir(folder));) {
        char *path;
        if (strncmp(entry->d_name, "apex_", 5) || asprintf(&path, "%s/%s", DEV, entry->d_name) < 0) continue;
        list[(*count)++].path = path;
    }
    if (folder) closedir(folder);
    list_usb(list, count);
    qsort(list, *count, sizeof *list, by_name);
    if (*count) return list;
    free(list);
    return NULL;
}

EXPORT void edgetpu_free_devices(edgetpu_device *list) {
    for (int i = 0; list && i < MAX_DEVICES; i++) free((void *)list[i].path);
    free(list);
}
EXPORT const char *edgetpu_version(void) { return "BuildLabel(SIMULATED by clusteradm lab), RuntimeVersion(14)"; }
EXPORT void edgetpu_verbosity(int level) { (void)level; }

static Delegate *delegate_for(const char *path) {
    Device *device = path ? open_device(path) : NULL;
    if (!device) return NULL; /* without a word, as the real library */
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->data = device;
    delegate->Prepare = delegate_prepare;
    delegate->flags = 1; /* dynamic tensors are allowed in the rest of the graph */
    return delegate;
}

/* For the device with this number of those of a type, of all where that is -1. */
static Delegate *delegate_of(int type, size_t number) {
    size_t known = 0, first = 0, last;
    edgetpu_device *list = edgetpu_list_devices(&known);
    last = known;
    while (type >= 0 && first < known && list[first].type < type) first++;
    while (type >= 0 && last > first && list[last - 1].type > type) last--;
    Delegate *delegate = number < last - first ? delegate_for(list[first + number].path) : NULL;
    edgetpu_free_devices(list);
    return delegate;
}

EXPORT Delegate *edgetpu_create_delegate(int type, const char *name, const edgetpu_option *options, size_t count) {
    (void)options, (void)count;
    return name && *name ? delegate_for(name) : delegate_of(type, 0);
}

EXPORT void edgetpu_free_delegate(Delegate *delegate) {
    if (!delegate) return; /* TFLite's Python binding frees what it never got */
    close_device(delegate->data);
    free(delegate);
}

/* `device`: "", ":N", "pci", "pci:N", "usb", "usb:N". */
EXPORT Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    (void)report;
    const char *wanted = "";
    for (size_t i = 0; i < count; i++)
        if (!strcmp(keys[i], "device")) wanted = values[i];
    int type = !strncmp(wanted, "pci", 3) ? 0 : !strncmp(wanted, "usb", 3) ? 1 : -1;
    if (type >= 0) wanted += 3;
    size_t number = 0;
    if (*wanted && *wanted != ':') return NULL;
    while (*wanted && *++wanted >= '0' && *wanted <= '9' && number < MAX_DEVICES) number = 10 * number + (size_t)(*wanted - '0');
    return delegate_of(type, number);
}

EXPORT void tflite_plugin_destroy_delegate(Delegate *delegate) { edgetpu_free_delegate(delegate); }
