//! LoRA adapters of random weights for any model, for tests.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{spread, uniform};
use crate::Header;
use crate::write::{self, ElementType, Tensor, Value};

/// The matrices of a block that an adapter changes.
const CHANGED: [&str; 7] = [
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
];

/// What an adapter of random weights is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterShape {
    /// Columns between the two matrices of a pair.
    pub rank: u32,
    /// `adapter.lora.alpha`: the change is multiplied by this divided by the rank.
    pub alpha: f32,
    /// Standard deviation of what it adds to a matrix's output for an input of standard
    /// deviation 1, with a scale of 1 and `alpha` equal to the rank.
    pub strength: f32,
}

impl Default for AdapterShape {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            strength: 0.1,
        }
    }
}

/// Writes an adapter for the model with this header. The same arguments produce the same bytes.
///
/// # Errors
/// `InvalidInput` where the model has none of the matrices that adapters change; those of the
/// file.
pub fn make_adapter(path: &Path, base: &Header, shape: AdapterShape, seed: u64) -> io::Result<()> {
    let tensors = tensors(base, shape.rank);
    if tensors.is_empty() {
        let message = "the model has no matrices that an adapter could change";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let text = |s: &str| Value::Text(s.to_owned());
    let values = [
        ("general.architecture", text(&base.architecture)),
        ("general.type", text("adapter")),
        ("general.name", text("random adapter")),
        ("general.base_model.0.name", text(&base.name)),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", Value::F32(shape.alpha)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write::write_header(&mut out, &values, &tensors)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = Vec::new();
    for tensor in &tensors {
        let count: u64 = tensor.shape.iter().product();
        let is_a = tensor.name.ends_with('a');
        let scale = spread(tensor.shape[0]) * if is_a { 1.0 } else { shape.strength };
        let values: Vec<f32> = (0..count).map(|_| uniform(&mut random) * scale).collect();
        bytes.clear();
        tensor.element.encode(&values, &mut bytes);
        out.write_all(&bytes)?;
        write::pad(&mut out, bytes.len() as u64)?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// The pairs of all blocks. A matrix that does not have the same size in every block is left
/// out.
fn tensors(base: &Header, rank: u32) -> Vec<Tensor> {
    let rank = u64::from(rank.max(1));
    let matrices = &base.matrices;
    let sizes_of = |name: &str| matrices.all.iter().filter(|m| m.name == name).count();
    let changed = |name: &str| CHANGED.contains(&name) && sizes_of(name) == 1;
    let mut tensors = Vec::new();
    for block in 0..matrices.blocks {
        for matrix in matrices.all.iter().filter(|m| changed(&m.name)) {
            let name = |part| format!("blk.{block}.{}.lora_{part}", matrix.name);
            let tensor = |part, columns, rows| Tensor {
                name: name(part),
                shape: vec![columns, rows],
                element: ElementType::F32,
            };
            tensors.push(tensor("a", matrix.columns, rank));
            tensors.push(tensor("b", rank, matrix.rows));
        }
    }
    tensors
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::super::{Shape, Storage, make};
    use super::*;
    use crate::read_header;

    fn header(path: &Path) -> Header {
        read_header(&mut BufReader::new(File::open(path).unwrap())).unwrap()
    }

    #[test]
    fn an_adapter_fits_its_model_and_no_wider_one() {
        let folder = tempfile::tempdir().unwrap();
        let model = |name: &str, shape: &str| {
            let path = folder.path().join(name);
            let (shape, storage) = (shape.parse::<Shape>().unwrap(), Storage::Q4KM);
            make(&path, shape, storage, 1, &mut |_, _| ()).unwrap();
            header(&path)
        };
        let base = model("base", "2,64,128,4,2,300");
        let path = folder.path().join("adapter");
        make_adapter(&path, &base, AdapterShape::default(), 1).unwrap();
        let adapter = header(&path);
        assert_eq!(adapter.check_base(&base), Ok(()));
        assert_eq!(adapter.matrices.all.len(), 2 * CHANGED.len());
        assert!(
            adapter
                .check_base(&model("deep", "3,64,128,4,2,300"))
                .is_ok()
        );
        for other in ["1,64,128,4,2,300", "2,128,128,4,2,300", "2,64,192,4,2,300"] {
            assert!(
                adapter.check_base(&model("other", other)).is_err(),
                "{other}"
            );
        }
        let none = make_adapter(&path, &Header::default(), AdapterShape::default(), 1);
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
