//! Constrained output: which tokens may come next, so that an answer always fits a
//! JSON schema, a grammar, a regular expression or the form of a tool call.
//!
//! [`Vocabulary`] is made once for a model, [`Matcher`] once for an answer. Before
//! each token [`Matcher::mask`] forbids what must not come, after it
//! [`Matcher::accept`] moves on; [`Matcher::forced`] gives the tokens between, which
//! need no model. What is built on it is valid as soon as it is complete; an answer
//! that `max_tokens` cuts off is not.
//!
//! **Whitespace.** Models write JSON as they have read it: `{"a": 1}`, or in lines
//! with indents. Compact JSON alone would push them off what they know, and free
//! whitespace lets small models write line ends for ever. So there may be one blank,
//! or one line end with at most 16 blanks or 8 tabs, wherever JSON has whitespace.
//! In tool calls it is always `{"a": 1, "b": 2}`: all templates write them so, and the
//! more is certain, the more comes without a decode.
//!
//! **Tool calls** have the form that llama.cpp's chat layer gives ([`CallGrammar`]), which
//! also reads them; **reasoning** before an answer is bound by nothing
//! ([`ReasoningTags`]).
//!
//! **Numbers** have the range that a schema gives them; where it gives none, JSON's
//! own grammar bounds nothing, and `1e999` is valid.
//!
//! **Formats** are kept to their form: 29 February comes in any year, and second 60
//! in any minute.
//!
//! **JSON schemas** are kept to the word: what cannot be guaranteed (`not`, `if`,
//! `uniqueItems`, alternatives of `oneOf` that overlap, …) is refused, not ignored.
//! References stay inside the schema (`#/…`). Properties come in the schema's order.
//! Schemas in Ollama's API are taken leniently: there what cannot be kept is ignored,
//! since clients send much of it.

mod bounds;
mod calls;
mod closed;
mod gbnf;
mod grammar;
mod matcher;
mod place;
mod reasoning;
mod vocabulary;

#[cfg(test)]
mod tests;

use hearth_proto::{Failure, GenerateRequest, Prompt};

pub use calls::invalid as invalid_tool;
pub use calls::{BareCalls, Beginning, CallGrammar, bare_calls, beginning};
pub use matcher::{Binding, Matcher};
pub use reasoning::ReasoningTags;
pub use vocabulary::{Tokenize, Vocabulary};

/// Checks what can be checked without a model, in time linear in the request: size,
/// depth, counts, GBNF's syntax, names of tools. What passes may still not compile.
///
/// # Errors
/// `InvalidSchema` naming the place or the tool, `InvalidArgs` where the choice of a
/// tool cannot be met.
pub fn check(request: &GenerateRequest) -> Result<(), Failure> {
    if let Some(constraint) = &request.constraint {
        grammar::check(constraint)?;
    }
    let tools = match &request.prompt {
        Prompt::Chat { tools, .. } => tools.as_slice(),
        Prompt::Text(_) => &[],
    };
    calls::check(tools, &request.tool_choice)?;
    Ok(())
}
