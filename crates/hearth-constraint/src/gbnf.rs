//! Translates llama.cpp's grammars (GBNF) to llguidance's Lark.
//!
//! GBNF matches characters, Lark matches lexemes greedily. Every part without recursion
//! therefore becomes one terminal, where the meaning is exactly the same. Only where such a
//! part is directly before a recursive one, and the latter may begin with what the former
//! may continue with, fewer texts are possible than in llama.cpp; never others.

mod calls;
mod linear;
mod parser;
mod rules;
mod writer;

use llguidance::toktrie::TokenId;

use self::parser::Parser;
use self::writer::write;

/// The same grammar in Lark; or the error, with its line.
pub(super) fn to_lark(text: &str) -> Result<String, String> {
    let rules = Parser::new(text).rules()?;
    let Some(root) = rules.names.get("root").copied() else {
        return Err("it has no rule `root`; add `root ::= …`".to_owned());
    };
    write(rules.bodies, root)
}

/// The tool calls of the chat layer's grammar, without the text that may precede them, in
/// Lark. `controls` are the control tokens that may occur, with their texts; `marks` are
/// texts that are left out.
pub(super) fn calls_to_lark(
    text: &str,
    one_call: bool,
    controls: &[(String, TokenId)],
    marks: &[String],
) -> Result<String, String> {
    let rules = Parser::new(text).rules()?;
    let start = calls::start(&rules.names, one_call)
        .ok_or("the chat layer's grammar has no rule for tool calls")?;
    let space = rules.names.get("space").copied();
    let mut bodies = rules.bodies;
    for body in &mut bodies {
        calls::make_compact(body, space);
        calls::leave_out(body, marks);
        calls::split_controls(body, controls);
    }
    write(bodies, start)
}
