"""Machine code of our own, made for processors that are not here: it cannot be run, but read."""

import re

import pytest

from twostage.encoder import fused_attention, fused_norm, fused_product
from twostage.encoder.processor import AVX2, AVX512

llvm = pytest.importorskip("llvmlite.binding")  # not installed on other families of processors
PROCESSORS = {  # by LLVM's names: lanes, and whether they multiply in bfloat16
    "haswell": (AVX2, False), "alderlake": (AVX2, False), "znver2": (AVX2, False), "skylake-avx512": (AVX512, False),
    "icelake-server": (AVX512, False), "cooperlake": (AVX512, True), "znver4": (AVX512, True), "sapphirerapids": (AVX512, True),
}  # fmt: skip


def assembly(code, name: str) -> str:
    code.ret_void()
    module = llvm.parse_assembly(str(code.module))
    module.verify()
    return llvm.Target.from_default_triple().create_target_machine(name, "", opt=1).emit_assembly(module)


@pytest.mark.parametrize("name", PROCESSORS)
def test_code_for_any_processor_calls_no_function(name, monkeypatch):
    lanes, has_bfloat16 = PROCESSORS[name]
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    monkeypatch.setattr("twostage.encoder.machine_code.has_bfloat16", lambda: has_bfloat16)
    monkeypatch.setattr("twostage.encoder.machine_code.Compiled", lambda code: assembly(code, name))
    pairs = (False, True) if has_bfloat16 else (False,)
    of = [fused_norm.kernel.__wrapped__(156, paired, rounds, lanes) for paired in (False, True) for rounds in (False, True)]
    of += [fused_attention.kernel.__wrapped__(width, paired, lanes) for paired in pairs for width in (26, 64)]
    of += [fused_product.kernel.__wrapped__(paired, gelu, paired, lanes) for paired in pairs for gelu in (False, True)]
    of += [fused_product.kernel.__wrapped__(paired, False, False, lanes) for paired in pairs]
    for text in of:
        assert "fmadd" in text or "dpbf16" in text
        assert not re.findall(r"\n\s+call.*", text)
