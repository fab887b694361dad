//! LoRA adapters: whether a file is one, and whether it fits a model.
//!
//! An adapter has two matrices for each that it changes: `NAME.lora_a` with the columns of the
//! model's matrix, and `NAME.lora_b` with its rows (llama.cpp's
//! `convert_lora_to_gguf.py`; for the token embeddings the other way round). Headers hold matrices without their block's number, so
//! that a check takes no memory for each tensor; the engine checks every pair when it loads them.

use super::{ElementType, Header};

/// The most different matrices of a file that are held: real models have some dozens.
const MATRICES_MAX: usize = 512;
const PART_A: &str = ".lora_a";
const PART_B: &str = ".lora_b";
/// Its rows are looked up, and its parts are swapped.
const TOKEN_EMBEDDING: &str = "token_embd.weight";

/// The matrices of one name and size, whatever their block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The tensor's name without the number of its block, e.g. `attn_q.weight`.
    pub name: String,
    /// Elements of a row.
    pub columns: u64,
    /// Rows.
    pub rows: u64,
}

/// What a header says of its file's matrices, and of an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrices {
    /// Each name and size once.
    pub all: Vec<Matrix>,
    /// One more than the highest number of a block in a tensor's name.
    pub blocks: u32,
    /// `adapter.type`; empty if the key is absent.
    pub adapter_type: String,
    /// Whether it is applied only after certain tokens (`adapter.alora.invocation_tokens`).
    pub is_activated: bool,
}

/// Why a file is no usable adapter, or not one of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// `general.type` or `adapter.type` is another one.
    #[error("it is not a LoRA adapter")]
    Kind,
    /// It is applied only after certain tokens.
    #[error("it is an activated LoRA adapter (aLoRA), which is not supported")]
    Activated,
    /// It changes nothing.
    #[error("it has no matrices")]
    Empty,
    /// The other matrix of a pair is missing.
    #[error("{0} has only one of its two matrices")]
    Unpaired(String),
    /// Its matrices are stored as something else than numbers that can be multiplied.
    #[error("its matrices are stored as type {0}, which is not supported")]
    Stored(u32),
    /// Another architecture.
    #[error("it belongs to another base: its architecture is {0:?}")]
    Architecture(String),
    /// The model has no such matrix, or one of another size.
    #[error("it belongs to another base: the model has no {0} of that size")]
    Matrix(String),
    /// The model has fewer blocks.
    #[error("it belongs to another base: it changes {0} blocks")]
    Blocks(u32),
}

impl Matrices {
    /// Records a tensor.
    pub(super) fn add(&mut self, tensor: &str, columns: u64, rows: u64) {
        let in_block = tensor
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(block, name)| Some((block.parse::<u32>().ok()?, name)));
        if let Some((block, _)) = in_block {
            self.blocks = self.blocks.max(block.saturating_add(1));
        }
        let name = in_block.map_or(tensor, |(_, name)| name);
        let is_known = |m: &Matrix| (m.columns, m.rows) == (columns, rows) && m.name == name;
        if rows > 0 && self.all.len() < MATRICES_MAX && !self.all.iter().any(is_known) {
            self.all.push(Matrix {
                name: name.to_owned(),
                columns,
                rows,
            });
        }
    }

    /// The matrices of this name.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Matrix> {
        self.all.iter().filter(move |matrix| matrix.name == name)
    }
}

impl Header {
    /// Whether the file is an adapter of any kind, not a model.
    pub fn is_adapter(&self) -> bool {
        self.kind == "adapter"
    }

    /// Checks that it is a LoRA adapter which can be loaded with some model.
    ///
    /// # Errors
    /// Why not.
    pub fn check_adapter(&self) -> Result<(), AdapterError> {
        let matrices = &self.matrices;
        if !self.is_adapter() || matrices.adapter_type != "lora" {
            return Err(AdapterError::Kind);
        }
        if matrices.is_activated {
            return Err(AdapterError::Activated);
        }
        if let Some(other) = self.weights.iter().find(|w| !can_multiply(w.element)) {
            return Err(AdapterError::Stored(other.element.0));
        }
        let mut pairs = 0;
        for matrix in &matrices.all {
            let name = &matrix.name;
            let other = match (name.strip_suffix(PART_A), name.strip_suffix(PART_B)) {
                (Some(base), _) => format!("{base}{PART_B}"),
                (_, Some(base)) => format!("{base}{PART_A}"),
                _ => continue,
            };
            if matrices.named(&other).next().is_none() {
                return Err(AdapterError::Unpaired(name.clone()));
            }
            pairs += 1;
        }
        if pairs == 0 {
            return Err(AdapterError::Empty);
        }
        Ok(())
    }

    /// Checks that this adapter fits a model: [`Self::check_adapter`], and that the model has
    /// all the matrices that it changes.
    ///
    /// # Errors
    /// Why not.
    pub fn check_base(&self, base: &Self) -> Result<(), AdapterError> {
        self.check_adapter()?;
        if self.architecture != base.architecture {
            return Err(AdapterError::Architecture(self.architecture.clone()));
        }
        if self.matrices.blocks > base.matrices.blocks {
            return Err(AdapterError::Blocks(self.matrices.blocks));
        }
        for part in &self.matrices.all {
            let of_base = match (
                part.name.strip_suffix(PART_A),
                part.name.strip_suffix(PART_B),
            ) {
                (Some(name), _) => (name, true),
                (_, Some(name)) => (name, false),
                _ => continue,
            };
            if !has_matrix_of(&base.matrices, of_base, part) {
                return Err(AdapterError::Matrix(part.name.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a model has a matrix of this name that a part of a pair fits, the first (`is_a`) or the
/// second.
fn has_matrix_of(base: &Matrices, (name, is_a): (&str, bool), part: &Matrix) -> bool {
    let is_embedding = name == TOKEN_EMBEDDING;
    base.named(name).any(|matrix| match (is_a, is_embedding) {
        (true, false) => matrix.columns == part.columns,
        (false, false) | (true, true) => matrix.rows == part.rows,
        (false, true) => matrix.columns == part.rows,
    })
}

/// Whether ggml multiplies matrices of this type on every CPU: floats and the common blocks.
fn can_multiply(element: ElementType) -> bool {
    matches!(element.0, 0..=3 | 6..=8 | 10..=14 | 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, Weights};

    /// A file of these tensors: name, columns, rows.
    fn file(tensors: &[(&str, u64, u64)]) -> Header {
        let mut matrices = Matrices::default();
        for (name, columns, rows) in tensors {
            matrices.add(name, *columns, *rows);
        }
        Header {
            architecture: "llama".into(),
            matrices,
            ..Header::default()
        }
    }

    fn adapter(tensors: &[(&str, u64, u64)]) -> Header {
        let mut header = file(tensors);
        header.kind = "adapter".into();
        header.matrices.adapter_type = "lora".into();
        header
    }

    fn model() -> Header {
        file(&[
            ("token_embd.weight", 64, 1000),
            ("output_norm.weight", 64, 0),
            ("blk.0.attn_q.weight", 64, 64),
            ("blk.0.attn_k.weight", 64, 32),
            ("blk.1.attn_q.weight", 64, 64),
            ("blk.1.attn_k.weight", 64, 32),
        ])
    }

    const FITS: [(&str, u64, u64); 4] = [
        ("blk.1.attn_k.weight.lora_a", 64, 8),
        ("blk.1.attn_k.weight.lora_b", 8, 32),
        ("token_embd.weight.lora_a", 8, 1000),
        ("token_embd.weight.lora_b", 8, 64),
    ];

    #[test]
    fn matrices_are_stored_once_for_all_blocks_and_bounded() {
        let model = model();
        let names: Vec<&str> = model.matrices.all.iter().map(|m| &*m.name).collect();
        assert_eq!(
            names,
            ["token_embd.weight", "attn_q.weight", "attn_k.weight"]
        );
        assert_eq!(model.matrices.blocks, 2);
        let mut many = Matrices::default();
        for n in 0..10_000 {
            many.add(&format!("t{n}"), 1, 1);
        }
        assert_eq!(many.all.len(), MATRICES_MAX);
    }

    #[test]
    fn an_adapter_fits_its_base_and_no_other() {
        assert_eq!(adapter(&FITS).check_base(&model()), Ok(()));
        // A norm is ignored, as llama.cpp does.
        let with_norm = [&FITS[..], &[("blk.0.attn_norm.weight", 64, 0)]].concat();
        assert_eq!(adapter(&with_norm).check_base(&model()), Ok(()));
        let other_base = |change: &dyn Fn(&mut Header)| {
            let mut other = model();
            change(&mut other);
            adapter(&FITS).check_base(&other).unwrap_err()
        };
        assert_eq!(
            other_base(&|m| m.architecture = "qwen2".into()),
            AdapterError::Architecture("llama".into())
        );
        assert_eq!(
            other_base(&|m| m.matrices.blocks = 1),
            AdapterError::Blocks(2)
        );
        for (at, columns, rows, part) in [
            (2, 128, 32, "attn_k.weight.lora_a"),
            (2, 64, 33, "attn_k.weight.lora_b"),
            (0, 64, 1001, "token_embd.weight.lora_a"),
            (0, 128, 1000, "token_embd.weight.lora_b"),
        ] {
            let changed = other_base(&|m| {
                let name = std::mem::take(&mut m.matrices.all[at].name);
                m.matrices.all[at] = Matrix {
                    name,
                    columns,
                    rows,
                };
            });
            assert_eq!(changed, AdapterError::Matrix(part.into()));
        }
        let without = other_base(&|m| drop(m.matrices.all.pop()));
        assert_eq!(without, AdapterError::Matrix("attn_k.weight.lora_a".into()));
    }

    #[test]
    fn files_that_are_no_adapter_are_refused() {
        let check = |change: &dyn Fn(&mut Header)| {
            let mut header = adapter(&FITS);
            change(&mut header);
            header.check_adapter()
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(model().check_adapter(), Err(AdapterError::Kind));
        let control = |h: &mut Header| h.matrices.adapter_type = "control_vector".into();
        assert_eq!(check(&control), Err(AdapterError::Kind));
        let activated = |h: &mut Header| h.matrices.is_activated = true;
        assert_eq!(check(&activated), Err(AdapterError::Activated));
        assert_eq!(check(&|h| h.matrices.all.clear()), Err(AdapterError::Empty));
        let unpaired = |h: &mut Header| drop(h.matrices.all.remove(1));
        assert_eq!(
            check(&unpaired),
            Err(AdapterError::Unpaired("attn_k.weight.lora_a".into()))
        );
        let integers = |h: &mut Header| {
            h.weights.push(Weights {
                place: Place::Block,
                element: ElementType(26),
                bytes: 4,
                in_eights: 0,
            });
        };
        assert_eq!(check(&integers), Err(AdapterError::Stored(26)));
    }
}
