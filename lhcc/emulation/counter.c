/* A plugin of QEMU that counts the instructions between the runner's marks, one count a line.
 *
 * QEMU's interface for plugins is declared here as far as it is used: distributions do not ship its header.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x6c68636bull

typedef uint64_t Id;
struct qemu_plugin_tb;

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(Id id, void (*translated)(Id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*executed)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(
    Id id, void (*called)(Id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t));
void qemu_plugin_register_atexit_cb(Id id, void (*ended)(Id, void *), void *data);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t instructions, marked;
static FILE *report;

static void executed(unsigned processor, void *count) {
    (void)processor;
    instructions += (uint64_t)(uintptr_t)count;
}

static void translated(Id id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(Id id, unsigned processor, int64_t call, uint64_t first, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g) {
    (void)id, (void)processor, (void)call, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g;
    if ((first & 0xffffffffull) != MARK) return;
    fprintf(report, "%llu\n", (unsigned long long)(instructions - marked));
    marked = instructions;
}

static void ended(Id id, void *data) {
    (void)id, (void)data;
    fclose(report);
}

EXPORT int qemu_plugin_install(Id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "to=", 3) || !(report = fopen(argv[0] + 3, "w"))) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
