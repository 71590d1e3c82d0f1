"""What a program needs on a Cortex-M without an operating system: where memory is, and what happens before main.

Printing and files go through a debugger or QEMU (semihosting); the network itself needs neither.
"""

from __future__ import annotations

from typing import Any

from lhcc.errors import TargetError

LINK = "--specs=rdimon.specs"  # newlib's functions, with semihosting behind them
SECTIONS = "-ffunction-sections -fdata-sections"  # what is not used is left out, and the map names every array

# QEMU's machine -> start and size of the memory for code, and for data
MEMORY = {
    "mps2-an500": ((0x00000000, 4 << 20), (0x20000000, 4 << 20)),
    "mps3-an547": ((0x00000000, 512 << 10), (0x21000000, 4 << 20)),
}

STARTUP = """\
/* From reset to main: memory as C expects it, the floating-point unit switched on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern unsigned char data_begin[], data_end[], data_image[], bss_begin[], bss_end[], stack_top[];
extern void initialise_monitor_handles(void);
extern int main(int argc, char **argv);

void reset(void);
void _init(void);
void _fini(void);

void _init(void) /* newlib wants them */
{
}

void _fini(void)
{
}

static void fault(void)
{
    _Exit(2);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))stack_top, reset, fault, fault, fault, fault, fault,
};

__attribute__((noinline)) static void start(void)
{
    static char name[] = "network", *arguments[] = {name, NULL};
    memcpy(data_begin, data_image, (size_t)(data_end - data_begin));
    memset(bss_begin, 0, (size_t)(bss_end - bss_begin));
    initialise_monitor_handles();
    exit(main(1, arguments));
}

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* access to the coprocessors 10 and 11 */
    __asm__ volatile("dsb\\n\\tisb");
    start();
}
"""


def linker_script(board: Any) -> str:
    """The memory of the board, or where the preset does not say, of the machine that QEMU emulates."""
    if board.emulated not in MEMORY:
        raise TargetError(f"where the memory of '{board.name}' begins is not known", f"known are {', '.join(MEMORY)}")
    (code, code_size), (data, data_size) = MEMORY[board.emulated]
    return f"""\
/* The memory of {board.emulated}: write that of your board here. */
MEMORY
{{
    FLASH (rx)  : ORIGIN = 0x{code:08x}, LENGTH = {board.flash or code_size}
    RAM   (rwx) : ORIGIN = 0x{data:08x}, LENGTH = {board.ram or data_size}
}}

ENTRY(reset)

SECTIONS
{{
    .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) KEEP(*(.init)) KEEP(*(.fini)) }} > FLASH
    .ARM.extab : {{ *(.ARM.extab*) }} > FLASH
    .ARM.exidx : {{ __exidx_start = .; *(.ARM.exidx*) __exidx_end = .; }} > FLASH
    .data : {{ data_begin = .; *(.data*) . = ALIGN(4); data_end = .; }} > RAM AT > FLASH
    data_image = LOADADDR(.data);
    .bss (NOLOAD) : {{ bss_begin = .; *(.bss*) *(COMMON) . = ALIGN(8); bss_end = .; end = .; }} > RAM
    stack_top = ORIGIN(RAM) + LENGTH(RAM);
}}
"""


def emulation(board: Any) -> str:
    """The command that runs a program, which follows."""
    semihosting = "-semihosting-config enable=on,target=native"
    return f"{board.emulator} -M {board.emulated} -nographic -monitor none {semihosting} -kernel"
