//! The header that the file of an entry has, as far as the memory estimate depends on it.

use hearth_gguf::{
    ElementType, Header, Place, ProjectorHeader, Recurrent, Shape, Weights, takes_more_bits,
};

use super::{Entry, Quantization};

/// A matrix of a model: where it is, columns, rows, and whether more bits are spent on it.
type Matrix = (Place, u64, u64, bool);

impl Entry {
    /// The header of its file, as far as the memory estimate depends on it.
    pub fn header(&self) -> Header {
        let mut header = Header {
            architecture: self.architecture.clone(),
            quantization: self.quantization.as_str().to_owned(),
            context_train: self.context,
            shape: Shape {
                blocks: self.layers,
                width: self.width,
                feed_forward: self.feed_forward,
                heads: self.heads,
                kv_heads: self.kv_heads(),
                key_length: self.head_width,
                value_length: self.head_width,
                vocabulary: self.vocabulary,
                // About as many as tokens, if there are merges at all.
                merges: self.vocabulary,
                sliding_window: self.sliding_window,
                shared_kv_blocks: self.shared_kv_layers,
                recurrent: Recurrent {
                    conv_kernel: self.ssm_conv_kernel,
                    inner_size: self.ssm_inner_size,
                    state_size: self.ssm_state_size,
                    group_count: self.ssm_group_count,
                    short_conv: self.short_conv,
                    ..Recurrent::default()
                },
                ..Shape::default()
            },
            ..Header::default()
        };
        let matrices = match self.file_bytes {
            Some(_) => self.vocabulary_matrices(),
            None => self.matrices(),
        };
        for (place, columns, rows, matters) in matrices {
            let element = self.quantization.of(columns, matters);
            let elements = columns.saturating_mul(rows);
            let bytes = element.bytes(elements);
            header.parameters += elements;
            let in_eights = if rows.is_multiple_of(8) { bytes } else { 0 };
            header.weights.push(Weights {
                place,
                element,
                bytes,
                in_eights,
            });
        }
        if let Some(file) = self.file_bytes {
            // Everything outside the vocabulary counts as layers, whatever it is.
            let known = header.weight_bytes() + self.vocabulary_bytes();
            let bytes = file.saturating_sub(known);
            header.weights.push(Weights {
                place: Place::Block,
                element: self.quantization.of(256, false),
                bytes,
                in_eights: bytes,
            });
        }
        header
    }

    /// Approximate size of its file in bytes: the matrices and the vocabulary.
    pub fn file_bytes(&self) -> u64 {
        self.header().weight_bytes() + self.vocabulary_bytes()
    }

    /// The header of its projector, as far as the memory estimate depends on it.
    pub fn projector_header(&self) -> Option<Header> {
        let projector = self.projector?;
        Some(Header {
            kind: "mmproj".to_owned(),
            projector: Some(ProjectorHeader {
                vision: true,
                text_width: self.width,
                side: projector.image_size,
                patch: projector.patch_size,
                width: projector.width,
                feed_forward: projector.feed_forward,
                ..ProjectorHeader::default()
            }),
            weights: vec![Weights {
                place: Place::Other,
                element: ElementType::Q8_0,
                bytes: projector.file_bytes,
                in_eights: 0,
            }],
            ..Header::default()
        })
    }

    /// Approximate size of its files in bytes: the model and its projector.
    pub fn total_bytes(&self) -> u64 {
        let projector = self.projector.map_or(0, |projector| projector.file_bytes);
        self.file_bytes() + projector
    }

    /// Tokens with their scores and types, and merges: 40 bytes each in real files.
    fn vocabulary_bytes(&self) -> u64 {
        u64::from(self.vocabulary) * 40
    }

    /// One number for all layers, or one for each if not all have attention. Which ones
    /// have it makes no difference to the memory.
    fn kv_heads(&self) -> Vec<u32> {
        match self.attention_layers {
            None => vec![self.kv_heads],
            Some(n) => (0..self.layers)
                .map(|layer| if layer < n { self.kv_heads } else { 0 })
                .collect(),
        }
    }

    fn vocabulary_matrices(&self) -> Vec<Matrix> {
        let [width, vocabulary] = [self.width, self.vocabulary].map(u64::from);
        let mut all = vec![(Place::Embedding, width, vocabulary, self.tied)];
        if !self.tied {
            all.push((Place::Output, width, vocabulary, true));
        }
        all
    }

    fn matrices(&self) -> Vec<Matrix> {
        let [width, feed_forward] = [self.width, self.feed_forward].map(u64::from);
        let head = u64::from(self.head_width);
        let all_heads = u64::from(self.heads) * head;
        let kv = u64::from(self.kv_heads) * head;
        let mut all = self.vocabulary_matrices();
        for block in 0..self.layers {
            let matters = takes_more_bits(block, self.layers);
            all.extend([
                // Query, key, value and output.
                (Place::Block, width, all_heads, false),
                (Place::Block, width, kv, false),
                (Place::Block, width, kv, matters),
                (Place::Block, all_heads, width, false),
                // Gate, up and down.
                (Place::Block, width, 2 * feed_forward, false),
                (Place::Block, feed_forward, width, matters),
            ]);
        }
        all
    }
}

impl Quantization {
    /// Type of a matrix with this many columns (`llama_tensor_get_type` in
    /// llama-quant.cpp).
    fn of(self, columns: u64, matters: bool) -> ElementType {
        // K types need rows of a multiple of 256 elements.
        match (self, matters, columns.is_multiple_of(256)) {
            (Self::Q8_0, _, _) | (Self::Q4_K_M, true, false) => ElementType::Q8_0,
            (Self::Q4_K_M, true, true) => ElementType::Q6_K,
            (Self::Q4_K_M, false, true) => ElementType::Q4_K,
            (Self::Q4_K_M, false, false) => ElementType::Q5_0,
        }
    }
}
