//! The mixtures of element types of whole files: llama.cpp's `enum llama_ftype`.

/// A file type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileType {
    /// Its number, `general.file_type`.
    pub number: u32,
    /// Its usual name.
    pub name: &'static str,
    /// A short description.
    pub about: &'static str,
}

const fn file_type(number: u32, name: &'static str, about: &'static str) -> FileType {
    FileType {
        number,
        name,
        about,
    }
}

/// The file types that llama.cpp can write (`llama_ftype_get_default_type`), the largest
/// first. The bits per weight are those of most of its matrices.
pub const FILE_TYPES: [FileType; 35] = [
    file_type(0, "F32", "32 bits"),
    file_type(1, "F16", "16 bits"),
    file_type(32, "BF16", "16 bits, with the range of 32"),
    file_type(7, "Q8_0", "8.5 bits, symmetric"),
    file_type(18, "Q6_K", "6.6 bits, symmetric, superblocks"),
    file_type(9, "Q5_1", "6 bits, asymmetric"),
    file_type(
        17,
        "Q5_K_M",
        "5.5 bits, asymmetric, superblocks, some in Q6_K",
    ),
    file_type(16, "Q5_K_S", "5.5 bits, asymmetric, superblocks"),
    file_type(8, "Q5_0", "5.5 bits, symmetric"),
    file_type(3, "Q4_1", "5 bits, asymmetric"),
    file_type(
        15,
        "Q4_K_M",
        "4.5 bits, asymmetric, superblocks, some in Q6_K",
    ),
    file_type(14, "Q4_K_S", "4.5 bits, asymmetric, superblocks"),
    file_type(
        2,
        "Q4_0",
        "4.5 bits, symmetric; rearranged for speed on ARM",
    ),
    file_type(25, "IQ4_NL", "4.5 bits, uneven steps"),
    file_type(30, "IQ4_XS", "4.25 bits, uneven steps, superblocks"),
    file_type(38, "MXFP4_MOE", "4.25 bits for experts, the rest in Q8_0"),
    file_type(
        13,
        "Q3_K_L",
        "3.4 bits, symmetric, superblocks, more in Q5_K",
    ),
    file_type(
        12,
        "Q3_K_M",
        "3.4 bits, symmetric, superblocks, some in Q4_K and Q5_K",
    ),
    file_type(11, "Q3_K_S", "3.4 bits, symmetric, superblocks"),
    file_type(27, "IQ3_M", "3.4 bits, from a table, some more"),
    file_type(26, "IQ3_S", "3.4 bits, from a table"),
    file_type(22, "IQ3_XS", "3.3 bits, from a table; needs --imatrix"),
    file_type(23, "IQ3_XXS", "3.06 bits, from a table; needs --imatrix"),
    file_type(
        10,
        "Q2_K",
        "2.6 bits, asymmetric, superblocks, some in Q3_K and Q4_K",
    ),
    file_type(
        21,
        "Q2_K_S",
        "2.6 bits, asymmetric, superblocks; needs --imatrix",
    ),
    file_type(29, "IQ2_M", "2.56 bits, from a table; needs --imatrix"),
    file_type(28, "IQ2_S", "2.3 bits, from a table; needs --imatrix"),
    file_type(20, "IQ2_XS", "2.3 bits, from a table; needs --imatrix"),
    file_type(19, "IQ2_XXS", "2.06 bits, from a table; needs --imatrix"),
    file_type(41, "Q2_0", "2.25 bits, for models that were trained for it"),
    file_type(
        37,
        "TQ2_0",
        "2.06 bits, for models that were trained with three values",
    ),
    file_type(
        36,
        "TQ1_0",
        "1.69 bits, for models that were trained with three values",
    ),
    file_type(31, "IQ1_M", "1.75 bits, from a table; needs --imatrix"),
    file_type(24, "IQ1_S", "1.56 bits, from a table; needs --imatrix"),
    file_type(40, "Q1_0", "1.13 bits, for models that were trained for it"),
];

impl FileType {
    /// The one with this number.
    pub fn of(number: u32) -> Option<&'static Self> {
        FILE_TYPES.iter().find(|t| t.number == number)
    }

    /// The one with this name, in any case; `Q4_K` and the like mean the medium one.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = match name.to_ascii_uppercase() {
            k if ["Q3_K", "Q4_K", "Q5_K"].contains(&k.as_str()) => k + "_M",
            other => other,
        };
        FILE_TYPES.iter().find(|t| t.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_number_and_one_name() {
        for t in &FILE_TYPES {
            assert_eq!(FileType::of(t.number), Some(t));
            assert_eq!(FileType::named(&t.name.to_lowercase()), Some(t));
        }
        assert_eq!(FileType::named("q4_k").map(|t| t.name), Some("Q4_K_M"));
        assert_eq!(FileType::named("Q4_2"), None);
        assert_eq!(FileType::of(4), None);
    }
}
