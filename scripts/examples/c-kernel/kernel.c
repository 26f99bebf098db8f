/* A small kernel in C. The NMI's entry code is in entry.S: put yours there. */
#include "nmi_lab.h"

typedef unsigned long u64;

NMI_LAB_NOTE("abi 1");
NMI_LAB_NOTE("ram 2097152");
NMI_LAB_NOTE("stack main low=main_stack high=main_stack_top");
NMI_LAB_NOTE("stack nmi low=nmi_stack high=nmi_stack_top");
NMI_LAB_NOTE("scratch low=nmi_stack high=nmi_stack_top");
/* RDI and RSI at entry: the values of these symbols. */
NMI_LAB_NOTE("scheme mine arg=my.entry entry=my.entry prefix=my. summary=\"the entry code in entry.S\"");
NMI_LAB_NOTE("scenario quiet arg=body_quiet summary=\"the NMI body does nothing\"");
NMI_LAB_NOTE("scenario fault arg=body_fault summary=\"the NMI body raises #UD\"");

/* Both stacks in one page: what a run may write is copied for every case. */
char main_stack[2048] __attribute__((section(".bss.stacks"), aligned(16)));
extern char main_stack_top[], nmi_stack_top[], undeclared[];
extern void invalid_opcode(void);

static struct { u64 low, high; } idt[32] __attribute__((aligned(16)));
static unsigned int tss[26];
static u64 gdt[5];

static void (*body)(void);
static volatile u64 table[8];

void body_quiet(void)
{
}

void body_fault(void)
{
    __asm__ volatile("ud2"); /* its handler skips it, and returns by iretq */
}

/* Called by entry.S for every NMI. It leaves nothing behind in memory. */
void nmi_body(const struct nmi_lab_regs *regs)
{
    nmi_lab_body_begin(regs);
    body();
    nmi_lab_body_end();
}

static void set_gate(int vector, u64 handler, u64 ist)
{
    idt[vector].low = (handler & 0xffff) | 8 << 16 | ist << 32 | 0x8eUL << 40 | (handler >> 16 & 0xffff) << 48;
    idt[vector].high = handler >> 32;
}

struct __attribute__((packed)) pointer {
    unsigned short limit;
    u64 base;
};

static void load_tables(u64 nmi_handler)
{
    u64 base = (u64)tss, top = (u64)nmi_stack_top;
    struct pointer to_gdt = { sizeof gdt - 1, (u64)gdt }, to_idt = { sizeof idt - 1, (u64)idt };

    tss[9] = (unsigned int)top; /* IST1 */
    tss[10] = top >> 32;
    gdt[1] = 0x00af9b000000ffff; /* 0x08, kernel code, as the VMM's */
    gdt[2] = 0x00cf93000000ffff; /* 0x10, kernel data, as the VMM's */
    gdt[3] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
    gdt[4] = base >> 32;
    for (int vector = 0; vector < 32; vector++)
        set_gate(vector, (u64)undeclared + vector, 0);
    set_gate(2, nmi_handler, 1);
    set_gate(6, (u64)invalid_opcode, 0);
    __asm__ volatile("lgdt %0; lidt %1; ltr %w2" :: "m"(to_gdt), "m"(to_idt), "r"(3 * 8));
}

/* The work that NMIs interrupt; its result must not depend on them. */
static __attribute__((noinline)) u64 work(void)
{
    u64 sum = 0;

    for (u64 i = 0; i < 8; i++)
        table[i] = i * i;
    for (u64 i = 0; i < 8; i++)
        sum = sum * 31 + table[i];
    return sum;
}

void kernel_main(u64 nmi_handler, void (*chosen)(void))
{
    body = chosen;
    load_tables(nmi_handler);
    nmi_lab_ready();
    nmi_lab_scenario_end(work());
    for (;;)
        __asm__ volatile("hlt");
}
