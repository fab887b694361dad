//! The form of tool calls, by the model's chat template.

use hearth_proto::{Failure, FailureKind};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokenId;

use super::error::first_line;
use super::gbnf;
use super::vocabulary::Vocabulary;

/// The form of calls of the offered tools, by the model's chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallGrammar {
    /// GBNF with a rule that matches calls alone.
    pub gbnf: String,
    /// Texts that begin a call in free text; none: a call is the whole answer, and begins
    /// with `{`.
    pub triggers: Vec<String>,
    /// Control tokens that belong to the form, by their text.
    pub controls: Vec<String>,
    /// The answer consists of calls only.
    pub is_forced: bool,
    /// At most one call.
    pub one_call: bool,
    /// Calls written as JSON at the beginning of an answer, in free text.
    pub bare: Option<BareCalls>,
}

/// Calls written as JSON without the marks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareCalls {
    /// GBNF with a rule that matches calls alone.
    pub gbnf: String,
    /// The marks around the JSON in this grammar.
    pub marks: [String; 2],
}

/// A matcher that allows only calls.
pub(super) fn compile(
    vocabulary: &Vocabulary,
    calls: &CallGrammar,
) -> Result<llguidance::Matcher, Failure> {
    compile_text(
        vocabulary,
        &calls.gbnf,
        calls.one_call,
        &calls.controls,
        &[],
    )
}

pub(super) fn compile_text(
    vocabulary: &Vocabulary,
    gbnf: &str,
    one_call: bool,
    controls: &[String],
    marks: &[String],
) -> Result<llguidance::Matcher, Failure> {
    let control = |name: &String| Some((name.clone(), vocabulary.special(name)?));
    let controls: Vec<(String, TokenId)> = controls.iter().filter_map(control).collect();
    let unusable = |why: &str| {
        Failure::new(
            FailureKind::InvalidSchema,
            format!("the tools cannot be used together: {why}; offer fewer or simpler ones"),
        )
    };
    let lark =
        gbnf::calls_to_lark(gbnf, one_call, &controls, marks).map_err(|error| unusable(&error))?;
    vocabulary
        .compile(TopLevelGrammar::from_lark(lark))
        .map_err(|error| unusable(&first_line(&error)))
}
