//! Say clearly that a CPU is too old, before anything else does.
//!
//! The standard build is compiled for x86-64-v3, so that a local model's arithmetic is the same on every machine.
//! On an older CPU such a program dies with an illegal instruction at some arbitrary place. [`require`] asks the CPU
//! itself (`std`'s feature macros answer from the build's flags and would say yes), and belongs first in `main`.

/// The CPU lacks instructions this build uses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this CPU lacks {missing}: the build needs x86-64-v3 (AVX2; Intel Haswell, AMD Zen or newer). \
     On an older machine, build with `target-cpu` lowered in .cargo/config.toml; local-model answers then carry another engine identity"
)]
pub struct CpuError {
    /// The missing features, comma separated.
    pub missing: String,
}

/// Checks that the CPU has what this build was compiled for.
///
/// # Errors
/// [`CpuError`] naming every missing feature.
pub fn require() -> Result<(), CpuError> {
    let missing: Vec<&str> =
        required().into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect();
    if missing.is_empty() { Ok(()) } else { Err(CpuError { missing: missing.join(", ") }) }
}

/// The instruction set of this build, as an engine identity names it.
#[must_use]
pub const fn build_isa() -> &'static str {
    if cfg!(all(target_arch = "x86_64", target_feature = "avx512f")) {
        "x86-64-v4"
    } else if cfg!(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "fma")) {
        "x86-64-v3"
    } else if cfg!(target_arch = "x86_64") {
        "x86-64"
    } else if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        "other"
    }
}

/// Features the build assumes, each with whether the CPU has it.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
fn required() -> Vec<(&'static str, bool)> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    const AVX2_LEAF: u32 = 7;
    let bit = |register: u32, index: u32| register >> index & 1 == 1;
    let highest = __cpuid(0).eax;
    let basic = __cpuid(1);
    let extended = if highest >= AVX2_LEAF { Some(__cpuid_count(AVX2_LEAF, 0).ebx) } else { None };
    // OSXSAVE stands for "the operating system saves the wide registers"; without it AVX traps as well.
    vec![
        ("osxsave", bit(basic.ecx, 27)),
        ("avx", bit(basic.ecx, 28)),
        ("fma", bit(basic.ecx, 12)),
        ("f16c", bit(basic.ecx, 29)),
        ("avx2", extended.is_some_and(|ebx| bit(ebx, 5))),
        ("bmi1", extended.is_some_and(|ebx| bit(ebx, 3))),
        ("bmi2", extended.is_some_and(|ebx| bit(ebx, 8))),
    ]
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
fn required() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_running_the_tests_has_what_the_tests_were_built_for() {
        assert_eq!(require(), Ok(()));
    }

    #[test]
    fn the_message_names_the_feature_and_the_way_out() {
        let text = CpuError { missing: "avx2, fma".into() }.to_string();
        assert!(text.contains("avx2, fma") && text.contains("target-cpu"), "{text}");
    }
}
