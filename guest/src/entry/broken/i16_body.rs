//! `broken-i16-body`: its #UD handler returns with TF clear, whatever it was: a body that
//! single-steps over a ud2 never takes its #DB (I16).

use crate::arch::fault::{self, Handlers};
use crate::entry::{Scheme, naive};

lab_note!(
    "scheme broken-i16-body mode=native arg=SCHEME_BROKEN_I16_BODY entry=naive.entry prefix=naive. "
    "broken=I16 summary=\"loses TF at a return to the body\""
);

scheme!(
    SCHEME_BROKEN_I16_BODY =
        Scheme { faults: Handlers { invalid_opcode, ..fault::NATIVE }, ..Scheme::native(naive::ENTRY) }
);

unsafe extern "C" {
    #[link_name = "broken_i16_body.invalid_opcode"]
    fn invalid_opcode();
}

entry_asm! {r"
# #UD. RSP → frame.
    .globl broken_i16_body.invalid_opcode
broken_i16_body.invalid_opcode:
    andl ${not_tf}, 16(%rsp)
    jmp fault.invalid_opcode
"}
