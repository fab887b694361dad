//! The options of a request.

use serde_json::{Map, Value};

use crate::{
    Constraint, GenerateRequest, Lora, Overflow, Priority, Prompt, Reuse, Sampling, Submission,
    Thinking,
};

/// What a request sets besides its prompt. `None` and empty mean that it does not; see
/// [`GenerateRequest`] for what applies then, and for what the options do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestOptions {
    /// The model's name.
    pub model: Option<String>,
    /// How to choose tokens; without `ignore_eos`, which is a field here.
    pub sampling: Sampling,
    /// Whether to continue where the model would end its answer.
    pub ignore_eos: Option<bool>,
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Stop strings.
    pub stop: Option<Vec<String>>,
    /// The scheduling class.
    pub priority: Option<Priority>,
    /// What to do with a conversation that is longer than the context.
    pub overflow: Option<Overflow>,
    /// Whether the same request has to give the same result; goes before `cache_prompt`.
    pub reproducible: Option<bool>,
    /// Whether the prefix cache may be used.
    pub cache_prompt: Option<bool>,
    /// The format that the answer must have.
    pub constraint: Option<Constraint>,
    /// The field that sets it.
    pub constraint_field: Option<&'static str>,
    /// Whether the model reasons first.
    pub thinking: Option<Thinking>,
    /// The most tokens of reasoning.
    pub reasoning_budget: Option<u32>,
    /// Further variables of the chat template.
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// How many of the first messages other conversations are likely to begin with.
    pub shared_messages: Option<u32>,
    /// Whether the model continues the last message.
    pub continue_final_message: Option<bool>,
    /// The adapters that are applied.
    pub lora: Option<Vec<Lora>>,
}

impl RequestOptions {
    /// Takes options that are unset here from `others`.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let mut sampling = self.sampling.or(&others.sampling);
        if sampling.logit_bias.is_empty() {
            sampling.logit_bias.clone_from(&others.sampling.logit_bias);
        }
        macro_rules! merge {
            ($($name:ident)*) => {
                Self {
                    sampling,
                    $($name: self.$name.clone().or_else(|| others.$name.clone()),)*
                }
            };
        }
        merge!(
            model ignore_eos max_tokens stop priority overflow reproducible cache_prompt
            constraint constraint_field thinking reasoning_budget chat_template_kwargs shared_messages
            continue_final_message lora
        )
    }

    /// The request with these options and this prompt.
    pub fn submission(self, prompt: Prompt) -> Submission {
        let reuse = if self.reproducible == Some(true) {
            Reuse::Reproducible
        } else if self.cache_prompt == Some(false) {
            Reuse::Denied
        } else {
            Reuse::Allowed
        };
        Submission {
            model: self.model,
            request: GenerateRequest {
                prompt,
                sampling: Sampling {
                    ignore_eos: self.ignore_eos.unwrap_or_default(),
                    ..self.sampling
                },
                max_tokens: self.max_tokens,
                stop: self.stop.unwrap_or_default(),
                constraint: self.constraint,
                constraint_field: self.constraint_field,
                priority: self.priority.unwrap_or_default(),
                overflow: self.overflow.unwrap_or_default(),
                thinking: self.thinking,
                reasoning_budget: self.reasoning_budget,
                chat_template_kwargs: self.chat_template_kwargs.unwrap_or_default(),
                shared_messages: self.shared_messages,
                continue_final_message: self.continue_final_message.unwrap_or_default(),
                reuse,
                lora: self.lora.unwrap_or_default(),
                ..GenerateRequest::default()
            },
            ..Submission::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Biased;

    #[test]
    fn options_of_a_turn_override_the_sessions() {
        let session = RequestOptions {
            model: Some("m".into()),
            sampling: Sampling {
                temperature: Some(0.7),
                top_k: Some(3),
                logit_bias: vec![(Biased::Token(1), -1.0)],
                ..Sampling::default()
            },
            ignore_eos: Some(true),
            stop: Some(vec!["a".into()]),
            priority: Some(Priority::Interactive),
            reproducible: Some(true),
            ..RequestOptions::default()
        };
        let turn = RequestOptions {
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            ignore_eos: Some(false),
            max_tokens: Some(7),
            stop: Some(Vec::new()),
            reproducible: Some(false),
            cache_prompt: Some(false),
            ..RequestOptions::default()
        };
        let both = turn.or(&session).submission(Prompt::default());
        let request = both.request;
        assert_eq!(both.model.as_deref(), Some("m"));
        assert_eq!(request.sampling.temperature, Some(0.0));
        assert_eq!(request.sampling.top_k, Some(3));
        assert_eq!(request.sampling.logit_bias.len(), 1);
        assert!(!request.sampling.ignore_eos && request.stop.is_empty());
        assert_eq!(request.max_tokens, Some(7));
        assert_eq!(request.priority, Priority::Interactive);
        assert_eq!(request.reuse, Reuse::Denied);
        assert_eq!(
            session.or(&turn),
            RequestOptions {
                max_tokens: Some(7),
                cache_prompt: Some(false),
                ..session
            }
        );
    }

    #[test]
    fn empty_options_give_the_default_request() {
        let made = RequestOptions::default().submission(Prompt::default());
        assert_eq!(made, Submission::default());
    }
}
