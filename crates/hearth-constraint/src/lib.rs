//! Constrained output: which tokens may come next, so that an answer always matches a JSON
//! schema, a grammar, a regular expression or the form of a tool call.
//!
//! [`Vocabulary`] is built once for a model, [`Matcher`] once for an answer. Before each
//! token [`Matcher::mask`] forbids tokens, after it [`Matcher::accept`] advances;
//! [`Matcher::forced`] returns the tokens that need no model. An answer is valid as soon as
//! it is complete; one that `max_tokens` cuts off is not.
//!
//! **Whitespace.** Models write JSON as in their training data: `{"a": 1}`, or in lines
//! with indentation. Compact JSON alone would be unusual for them, and with free whitespace
//! small models write line ends for ever. So one blank, or one line end with at most 16
//! blanks or 8 tabs, is allowed wherever JSON has whitespace. In tool calls it is always
//! `{"a": 1, "b": 2}`: all templates write them so, and the fewer choices, the more tokens
//! come without a decode.
//!
//! **Tool calls** have the form that llama.cpp's chat layer defines ([`CallGrammar`]),
//! which also parses them; **reasoning** before an answer is not constrained
//! ([`ReasoningTags`]).
//!
//! **Numbers** have the range that a schema specifies; without one, JSON's own grammar
//! bounds nothing, and `1e999` is valid.
//!
//! **Formats** are checked by form only: 29 February is valid in any year, and second 60 in
//! any minute.
//!
//! **JSON schemas** with `strict` are enforced as they are: a keyword that cannot be
//! guaranteed (`not`, `if`, `uniqueItems`, alternatives of `oneOf` that overlap, …) is refused.
//! Without it, it is left out, and [`not_enforced`] names its place: clients generate many such
//! keywords. References stay inside the schema (`#/…`). Properties come in the schema's order.

mod beginning;
mod bounds;
mod calls;
mod closed;
mod error;
mod gbnf;
mod grammar;
mod matcher;
mod place;
mod reasoning;
mod relax;
mod schema;
mod tools;
mod vocabulary;
mod watch;

#[cfg(test)]
mod tests;

use hearth_proto::{Constraint, Failure, GenerateRequest, Prompt};
use serde_json::Value;

pub use beginning::{Beginning, bare_calls, beginning};
pub use calls::{BareCalls, CallGrammar};
pub use matcher::{Binding, Matcher};
pub use reasoning::ReasoningTags;
use relax::{Compiler, relaxed};
pub use tools::invalid as invalid_tool;
pub use vocabulary::{Tokenize, Vocabulary};

/// Checks what can be checked without a model, in time linear in the request: size, depth,
/// counts, GBNF's syntax, names of tools. A constraint that passes may still not compile.
///
/// # Errors
/// `InvalidSchema` naming the place or the tool, `InvalidArgs` where the choice of a
/// tool cannot be met.
pub fn check(request: &GenerateRequest) -> Result<(), Failure> {
    if let Some(constraint) = &request.constraint {
        grammar::check(constraint)?;
    }
    let offered = match &request.prompt {
        Prompt::Chat { tools, .. } => tools.as_slice(),
        Prompt::Text(_) | Prompt::Mixed(_) | Prompt::Infill(_) => &[],
    };
    tools::check(offered, &request.tool_choice)
}

/// What the answer to a request that passed [`check`] is not guaranteed to follow, as JSON
/// pointers into its schema, and into the parameters of its tools after their names. In time
/// linear in the request.
pub fn not_enforced(request: &GenerateRequest) -> Vec<String> {
    let mut places = match &request.constraint {
        Some(Constraint::LenientSchema(schema) | Constraint::OpenSchema(schema)) => {
            relaxed(schema, Compiler::Guidance).1
        }
        _ => Vec::new(),
    };
    if let Prompt::Chat { tools, .. } = &request.prompt {
        for tool in tools {
            let function = &tool["function"];
            let name = function["name"].as_str().unwrap_or_default();
            let omitted = relaxed(&function["parameters"], Compiler::ChatLayer).1;
            places.extend(omitted.into_iter().map(|place| format!("{name}{place}")));
        }
    }
    places
}

/// A tool without what cannot be guaranteed of its parameters.
pub fn relaxed_tool(tool: &Value) -> Value {
    let mut tool = tool.clone();
    if let Some(parameters) = tool.pointer_mut("/function/parameters") {
        *parameters = relaxed(parameters, Compiler::ChatLayer).0;
    }
    tool
}
