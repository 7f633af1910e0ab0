//! From the texts of a rule to its programs, and what is wrong with them in upstream's words.

use cel::{Env, Program, Type};
use serde_json::Value;

use super::super::cel_library::functions;
use super::{flag, rules_of, trimmed};

/// What one rule compiles to, and in which environment.
pub(super) struct Compiled {
    pub env: Env,
    pub program: Result<Program, String>,
    pub message: Option<Result<Program, String>>,
}

/// Functions that only stored rules may use: the version before does not know them.
const NEWER: &str = "includes";

/// Whether rules of this node use one of those.
pub fn newer(s: &Value) -> bool {
    let written = |r: &Value| ["rule", "messageExpression"].iter().any(|f| trimmed(r, f).contains(NEWER));
    rules_of(s).iter().any(written)
}

/// What the rules of a new definition can't use, and those of one that has such rules already.
pub(super) const REFUSED: &[&str] = &["cel.bind", NEWER];
pub(super) const REFUSED_ANYWAY: &[&str] = &["cel.bind"];

/// `refused`: functions that the rule may not use.
pub(super) fn compile_one(this: &Type, rule: &Value, refused: &'static [&'static str]) -> Compiled {
    let this = this.clone();
    let old = if flag(rule, "optionalOldSelf") { Type::optional(this.clone()) } else { this.clone() };
    let env = Env::with(vec![("self".into(), this), ("oldSelf".into(), old)], functions());
    let env = env.without(refused).with_literals_checked();
    let compile = |field: &str, wanted: &Type, what: &str, must: &str| {
        let source = rule[field].as_str().unwrap_or_default();
        match env.compile(source, None) {
            Ok(p) if p.result.assignable(wanted) => Ok(p),
            Ok(_) => Err(must.to_owned()),
            Err(why) => Err(format!("{what}compilation failed: {}", why.show(source))),
        }
    };
    let program = compile("rule", &Type::Bool, "", "cel expression must evaluate to a bool");
    let said = !trimmed(rule, "messageExpression").is_empty();
    let must = "messageExpression must evaluate to a string";
    let message = said.then(|| compile("messageExpression", &Type::String, "messageExpression ", must));
    Compiled { env, program, message }
}
