//! The Common Expression Language as Kubernetes uses it: parser with macros and optional values, type check, evaluator
//! with a cost limit, estimates of costs, and the functions of cel-spec and of Kubernetes' libraries (lists, strings,
//! regular expressions, IP addresses, URLs, time). Pure but for the cache in `patterns`; spawns nothing.
//! https://kubernetes.io/docs/reference/using-api/cel/
#![forbid(unsafe_code)]

pub mod ast;
mod check;
pub mod estimate;
mod eval;
pub mod functions;
mod lexer;
mod literals;
mod parser;
mod patterns;
pub mod regexp;
pub mod types;
pub mod value;

use std::sync::Arc;

pub use estimate::{Range, Shape};
pub use functions::{Function, Overload};
pub use parser::RESERVED;
pub use types::Type;
pub use value::{Fields, Map, Message, Opaque, Value};

/// What is wrong with an expression, and where (offset in characters from its beginning).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    pub offset: usize,
    pub message: String,
}

impl CompileError {
    /// As cel-go shows it: place, text, and the line with a mark under it.
    pub fn show(&self, source: &str) -> String {
        let before: String = source.chars().take(self.offset).collect();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count());
        let text = source.lines().nth(line).unwrap_or_default();
        let mark = " | ".to_owned() + &".".repeat(column) + "^";
        format!("ERROR: <input>:{}:{}: {}\n | {text}\n{mark}", line + 1, column + 1, self.message)
    }
}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// `no such key: x`, `division by zero`, …
    #[error("{0}")]
    Failed(String),
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
}

/// The messages that an expression may make: `None`, there is none of that name; without a list, fields may be any.
pub type Messages = fn(&str) -> Option<Option<&'static [(&'static str, Type)]>>;

/// Names and functions that an expression may use.
#[derive(Clone)]
pub struct Env {
    pub variables: Vec<(String, Type)>,
    functions: Arc<functions::Table>,
    messages: Messages,
    refused: &'static [&'static str],
    literals: bool,
}

impl Env {
    /// The standard functions.
    pub fn new(variables: Vec<(String, Type)>) -> Self {
        Self::with(variables, functions::standard())
    }

    /// With more functions beside the standard ones.
    pub fn with(variables: Vec<(String, Type)>, functions: Arc<functions::Table>) -> Self {
        Self { variables, functions, messages: |_| None, refused: &[], literals: false }
    }

    /// Lets expressions make messages.
    pub fn with_messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    /// Refuses literals that would fail when they are used, and collections of literals that differ in type, as the API's
    /// rules and policies do.
    pub fn with_literals_checked(mut self) -> Self {
        self.literals = true;
        self
    }

    /// Without these functions and macros (`cel.bind`): who names one is told that there is none.
    pub fn without(mut self, refused: &'static [&'static str]) -> Self {
        self.refused = refused;
        self
    }

    /// Parses and checks; `wanted` is the type that the result must have.
    pub fn compile(&self, source: &str, wanted: Option<&Type>) -> Result<Program, CompileError> {
        let expr = parser::parse(source)?;
        let result = check::check(&expr, self)?;
        if self.literals {
            literals::check(&expr, self)?;
        }
        if let Some(w) = wanted
            && !result.assignable(w)
        {
            return Err(CompileError {
                offset: 0,
                message: format!("must evaluate to {w}, and evaluates to {result}"),
            });
        }
        let mut used = Vec::new();
        expr.names(&mut Vec::new(), &mut used);
        Ok(Program { expr, functions: self.functions.clone(), result, used })
    }

    pub(crate) fn functions(&self) -> &functions::Table {
        &self.functions
    }

    /// What a program that was compiled here costs, before it ever runs. `start`: what is known of the variables.
    pub fn estimate<'s>(&self, p: &Program, start: estimate::Start<'_, 's>) -> Range {
        estimate::run(&p.expr, self, start)
    }
}

/// A checked expression.
pub struct Program {
    expr: ast::Expr,
    functions: Arc<functions::Table>,
    /// The type of what it evaluates to.
    pub result: Type,
    used: Vec<String>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("result", &self.result).field("uses", &self.used).finish()
    }
}

impl Program {
    /// Whether the expression looks at a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.used.iter().any(|u| u == variable)
    }

    /// Evaluates; `budget` is what may be spent, and holds what is left afterwards.
    pub fn eval(&self, variables: &[(&str, Value)], budget: &mut u64) -> Result<Value, EvalError> {
        eval::run(&self.expr, &self.functions, variables, budget)
    }
}
