//! A simple computation of a llama-like model, from a file that `make-model` wrote: the
//! reference for llama.cpp's results.

use std::collections::BTreeMap;
use std::path::Path;

/// Dimensions, as `make-model --shape` takes them.
pub struct Plain {
    layers: usize,
    width: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    tensors: BTreeMap<String, Vec<f64>>,
    /// Sums of the squared inputs of each matrix, by column.
    pub squares: BTreeMap<String, Vec<f64>>,
}

impl Plain {
    /// Reads a model of 32-bit floats.
    pub fn read(path: &Path, shape: &str) -> Self {
        let numbers: Vec<usize> = shape.split(',').map(|n| n.parse().unwrap()).collect();
        let &[layers, width, hidden, heads, kv_heads, vocab] = numbers.as_slice() else {
            panic!("six numbers: {shape}");
        };
        let kv = width / heads * kv_heads;
        // In the order of the file.
        let mut names = vec![
            ("token_embd".to_owned(), vocab * width),
            ("output_norm".to_owned(), width),
        ];
        for n in 0..layers {
            names.extend(
                [
                    ("attn_norm", width),
                    ("attn_q", width * width),
                    ("attn_k", width * kv),
                    ("attn_v", width * kv),
                    ("attn_output", width * width),
                    ("ffn_norm", width),
                    ("ffn_gate", width * hidden),
                    ("ffn_up", width * hidden),
                    ("ffn_down", hidden * width),
                ]
                .map(|(name, size)| (format!("blk.{n}.{name}"), size)),
            );
        }
        let bytes = std::fs::read(path).unwrap();
        let total: usize = names.iter().map(|(_, size)| size * 4).sum();
        // All tensor sizes here are multiples of the alignment.
        let mut rest = &bytes[bytes.len() - total..];
        let mut tensors = BTreeMap::new();
        for (name, size) in names {
            let (own, after) = rest.split_at(size * 4);
            rest = after;
            let (words, _) = own.as_chunks::<4>();
            let values = words.iter().map(|w| f64::from(f32::from_le_bytes(*w)));
            tensors.insert(name, values.collect());
        }
        Self {
            layers,
            width,
            hidden,
            heads,
            kv_heads,
            vocab,
            tensors,
            squares: BTreeMap::new(),
        }
    }

    /// The logits after each token of a text.
    pub fn logits(&mut self, tokens: &[usize]) -> Vec<Vec<f64>> {
        let (width, head) = (self.width, self.width / self.heads);
        let mut keys: Vec<Vec<Vec<f64>>> = vec![Vec::new(); self.layers];
        let mut values = keys.clone();
        let mut all = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            let embeddings = &self.tensors["token_embd"];
            let mut x = embeddings[token * width..(token + 1) * width].to_vec();
            for n in 0..self.layers {
                let name = |part: &str| format!("blk.{n}.{part}");
                let input = self.norm(&x, &name("attn_norm"));
                let mut q = self.times(&name("attn_q"), &input, width);
                let mut k = self.times(&name("attn_k"), &input, head * self.kv_heads);
                let v = self.times(&name("attn_v"), &input, head * self.kv_heads);
                q.chunks_mut(head).for_each(|h| rotate(h, position));
                k.chunks_mut(head).for_each(|h| rotate(h, position));
                keys[n].push(k);
                values[n].push(v);
                let mut seen = Vec::new();
                for (h, q) in q.chunks(head).enumerate() {
                    let at = h / (self.heads / self.kv_heads) * head;
                    let scores = keys[n].iter().map(|k| {
                        let dot: f64 = q.iter().zip(&k[at..at + head]).map(|(a, b)| a * b).sum();
                        (dot / f64::from(u32::try_from(head).unwrap()).sqrt()).exp()
                    });
                    let scores: Vec<f64> = scores.collect();
                    let sum: f64 = scores.iter().sum();
                    seen.extend((0..head).map(|i| {
                        let of = scores.iter().zip(&values[n]);
                        of.map(|(s, v)| s / sum * v[at + i]).sum::<f64>()
                    }));
                }
                let out = self.times(&name("attn_output"), &seen, width);
                add(&mut x, &out);
                let input = self.norm(&x, &name("ffn_norm"));
                let gate = self.times(&name("ffn_gate"), &input, self.hidden);
                let up = self.times(&name("ffn_up"), &input, self.hidden);
                let both = gate.iter().zip(&up);
                let both: Vec<f64> = both.map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let down = self.times(&name("ffn_down"), &both, width);
                add(&mut x, &down);
            }
            let last = self.norm(&x, "output_norm");
            all.push(self.times("token_embd", &last, self.vocab));
        }
        all
    }

    fn norm(&self, x: &[f64], weight: &str) -> Vec<f64> {
        let mean =
            x.iter().map(|v| v * v).sum::<f64>() / f64::from(u32::try_from(x.len()).unwrap());
        let scale = 1.0 / (mean + 1e-6).sqrt();
        let weights = &self.tensors[weight];
        x.iter().zip(weights).map(|(v, w)| v * scale * w).collect()
    }

    fn times(&mut self, name: &str, x: &[f64], rows: usize) -> Vec<f64> {
        let squares = self.squares.entry(format!("{name}.weight")).or_default();
        squares.resize(x.len(), 0.0);
        for (square, value) in squares.iter_mut().zip(x) {
            *square += value * value;
        }
        let matrix = &self.tensors[name];
        let row = |n: usize| &matrix[n * x.len()..(n + 1) * x.len()];
        (0..rows)
            .map(|n| row(n).iter().zip(x).map(|(w, v)| w * v).sum())
            .collect()
    }
}

fn add(x: &mut [f64], more: &[f64]) {
    for (x, more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

/// Rotates adjacent pairs by the position, as llama models do.
fn rotate(head: &mut [f64], position: usize) {
    let width = f64::from(u32::try_from(head.len()).unwrap());
    let position = f64::from(u32::try_from(position).unwrap());
    for (n, pair) in (0u32..).zip(head.chunks_mut(2)) {
        let angle = position * 10_000f64.powf(-2.0 * f64::from(n) / width);
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * angle.cos() - b * angle.sin();
        pair[1] = a * angle.sin() + b * angle.cos();
    }
}
