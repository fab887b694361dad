//! Why these CPU kernels and not better ones.

/// Processor features, in the order in which ggml scores them: a later one counts more
/// than all before it (`ggml_backend_score` in ggml-cpu/arch/*/cpu-feats.cpp). The names
/// are those that the kernels report.
#[cfg(target_arch = "aarch64")]
const FEATURES: [&str; 6] = ["DOTPROD", "FP16_VA", "SVE", "MATMUL_INT8", "SVE2", "SME"];
#[cfg(not(target_arch = "aarch64"))]
const FEATURES: [&str; 11] = [
    "FMA",
    "F16C",
    "SSE42",
    "BMI2",
    "AVX",
    "AVX2",
    "AVX_VNNI",
    "AVX512",
    "AVX512_VBMI",
    "AVX512_BF16",
    "AVX512_VNNI",
];

/// The variants that ggml builds, each with what it needs (ggml/src/CMakeLists.txt).
#[cfg(target_arch = "aarch64")]
const VARIANTS: [(&str, &str); 8] = [
    ("armv8.0_1", ""),
    ("armv8.2_1", "DOTPROD"),
    ("armv8.2_2", "DOTPROD FP16_VA"),
    ("armv8.2_3", "DOTPROD FP16_VA SVE"),
    ("armv8.6_1", "DOTPROD FP16_VA SVE MATMUL_INT8"),
    ("armv8.6_2", "DOTPROD FP16_VA SVE MATMUL_INT8 SVE2"),
    ("armv9.2_1", "DOTPROD FP16_VA SVE MATMUL_INT8 SME"),
    ("armv9.2_2", "DOTPROD FP16_VA SVE MATMUL_INT8 SVE2 SME"),
];
#[cfg(not(target_arch = "aarch64"))]
const VARIANTS: [(&str, &str); 13] = [
    ("x64", ""),
    ("sse42", "SSE42"),
    ("sandybridge", "SSE42 AVX"),
    ("ivybridge", "SSE42 AVX F16C"),
    ("piledriver", "SSE42 AVX F16C FMA"),
    ("haswell", "SSE42 AVX F16C FMA AVX2 BMI2"),
    ("alderlake", "SSE42 AVX F16C FMA AVX2 BMI2 AVX_VNNI"),
    ("skylakex", "SSE42 AVX F16C FMA AVX2 BMI2 AVX512"),
    (
        "cannonlake",
        "SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VBMI",
    ),
    (
        "cascadelake",
        "SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VNNI",
    ),
    (
        "icelake",
        "SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VBMI AVX512_VNNI",
    ),
    (
        "cooperlake",
        "SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VNNI AVX512_BF16",
    ),
    (
        "zen4",
        "SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16",
    ),
];

/// Explains the choice among the shipped variants, e.g. `the best of 8 for this
/// processor; armv8.2_3 needs SVE`: names the better variant for which the processor
/// lacks the fewest features. `None` where `loaded` is not known here, or is the only one
/// (a build for this machine).
pub(super) fn why(loaded: &str, shipped: &[String]) -> Option<String> {
    let has = needs(loaded)?;
    if shipped.len() < 2 {
        return None;
    }
    let best = format!("the best of {} for this processor", shipped.len());
    // ggml loads the variant with the highest score of those that run: a better one does
    // not run.
    let better = shipped
        .iter()
        .filter_map(|name| Some((needs(name)?, name)))
        .filter(|(needed, _)| *needed > has);
    let nearest = better.min_by_key(|(needed, _)| ((needed & !has).count_ones(), *needed));
    let Some((needed, name)) = nearest else {
        return Some(best);
    };
    let missing = names(needed & !has).join(" and ");
    Some(format!("{best}; {name} needs {missing}"))
}

/// What a variant needs, a bit for each of [`FEATURES`].
fn needs(variant: &str) -> Option<u32> {
    let (_, needed) = VARIANTS.iter().find(|(name, _)| *name == variant)?;
    let bit = |feature| FEATURES.iter().position(|known| *known == feature);
    needed
        .split_whitespace()
        .map(bit)
        .try_fold(0, |bits, at| Some(bits | (1 << at?)))
}

fn names(bits: u32) -> Vec<&'static str> {
    let known = FEATURES.iter().enumerate();
    known
        .filter(|(at, _)| bits & (1 << at) != 0)
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use nix::libc;

    use super::*;
    use crate::llama::kernels;

    /// ggml's score of a variant with these bits.
    fn score(bits: u32) -> u32 {
        1 + (bits << u32::from(cfg!(target_arch = "aarch64")))
    }

    /// The score that the kernels in this file report on this processor; 0: cannot run.
    fn said(path: &std::path::Path) -> u32 {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a string, and a library of our own build; its constructors initialize
        // tables.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{path:?}");
        // SAFETY: the handle is valid and stays open.
        let address = unsafe { libc::dlsym(handle, c"ggml_backend_score".as_ptr()) };
        assert!(!address.is_null(), "{path:?}");
        // SAFETY: ggml-backend-impl.h declares this signature; the function only queries
        // the processor.
        let score =
            unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(address) };
        u32::try_from(score()).unwrap()
    }

    #[test]
    fn kernel_scores_are_those_of_the_table() {
        let files = kernels::shipped();
        if std::env::var_os("HEARTH_BACKEND_DIR").is_some() {
            assert_eq!(files.len(), VARIANTS.len(), "{files:?}");
        }
        let all: Vec<(u32, u32)> = files
            .iter()
            .map(|(name, path)| (needs(name).expect("in the table"), said(path)))
            .collect();
        let has = all
            .iter()
            .filter(|(_, said)| *said > 0)
            .fold(0, |has, (bits, _)| has | bits);
        for (bits, said) in all {
            // A variant that needs only features that others found here runs here.
            let wanted = if bits & !has == 0 { score(bits) } else { 0 };
            assert_eq!(said, wanted, "{:?}", names(bits));
        }
    }

    #[test]
    fn the_missing_features_of_the_next_variant_are_named() {
        let all: Vec<String> = VARIANTS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let why = |loaded: &str| why(loaded, &all).unwrap();
        let cases: &[(&str, &str)] = if cfg!(target_arch = "aarch64") {
            &[
                (
                    "armv8.0_1",
                    "the best of 8 for this processor; armv8.2_1 needs DOTPROD",
                ),
                (
                    "armv8.2_2",
                    "the best of 8 for this processor; armv8.2_3 needs SVE",
                ),
                ("armv9.2_2", "the best of 8 for this processor"),
            ]
        } else {
            &[
                (
                    "x64",
                    "the best of 13 for this processor; sse42 needs SSE42",
                ),
                (
                    "piledriver",
                    "the best of 13 for this processor; haswell needs BMI2 and AVX2",
                ),
                (
                    "haswell",
                    "the best of 13 for this processor; alderlake needs AVX_VNNI",
                ),
                (
                    "icelake",
                    "the best of 13 for this processor; cooperlake needs AVX512_BF16",
                ),
                ("zen4", "the best of 13 for this processor"),
            ]
        };
        for (loaded, said) in cases {
            assert_eq!(why(loaded), *said);
        }
        assert_eq!(super::why("cpu", &all), None);
        assert_eq!(super::why(&all[0], &all[..1]), None);
    }
}
