//! The syntax tree. Operators are calls by cel-go's names (`_+_`); macros have nodes of their own.

use crate::value::Value;

#[derive(Debug, Clone)]
pub struct Expr {
    pub kind: Kind,
    /// Offset in characters.
    pub at: usize,
    pub depth: usize,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Literal(Value),
    Ident(String),
    /// `a.b`; with `test` it is `has(a.b)`, with `optional` it is `a.?b`.
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
        optional: bool,
    },
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    Call {
        name: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// `&&` and `||`: an error on one side does not matter when the other decides.
    Logic {
        and: bool,
        terms: Vec<Expr>,
    },
    Conditional {
        test: Box<Expr>,
        then: Box<Expr>,
        other: Box<Expr>,
    },
    /// An item marked with `?` is left out when it is an empty optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Object.spec{replicas: 1}`; a field marked with `?` is left out when it is an empty optional.
    Message {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)`; by a name that nobody can write, part of another macro.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `optional.optMap(name, body)`; `flat`: `optFlatMap`, whose body is an optional itself.
    Inside {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
        flat: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
    TransformList,
    TransformMap,
    /// As `TransformMap`, where the body makes entries of its own.
    TransformMapEntry,
}

/// A macro over a list or a map.
#[derive(Debug, Clone)]
pub struct Fold {
    pub kind: FoldKind,
    pub range: Expr,
    pub var: String,
    /// The second variable of the two-variable forms: the value beside the index or key.
    pub second: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

impl Expr {
    pub fn new(kind: Kind, at: usize) -> Self {
        let mut e = Self { kind, at, depth: 0 };
        let mut depth = 0;
        e.children(&mut |c| depth = depth.max(c.depth));
        e.depth = depth + 1;
        e
    }

    pub fn children<'a>(&'a self, f: &mut impl FnMut(&'a Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => f(operand),
            Kind::Index { operand, index, .. } => {
                f(operand);
                f(index);
            }
            Kind::Call { target, args, .. } => {
                target.iter().for_each(|t| f(t));
                args.iter().for_each(f);
            }
            Kind::Logic { terms, .. } => terms.iter().for_each(f),
            Kind::Conditional { test, then, other } => [test, then, other].into_iter().for_each(|e| f(e)),
            Kind::List(items) => items.iter().for_each(|(e, _)| f(e)),
            Kind::Map(entries) => entries.iter().for_each(|(k, v, _)| {
                f(k);
                f(v);
            }),
            Kind::Message { fields, .. } => fields.iter().for_each(|(_, e, _)| f(e)),
            Kind::Fold(fold) => {
                f(&fold.range);
                fold.filter.iter().for_each(&mut *f);
                f(&fold.body);
            }
            Kind::Bind { value, body, .. } | Kind::Inside { value, body, .. } => {
                f(value);
                f(body);
            }
        }
    }

    /// `a.b.c` as a name with dots.
    pub fn qualified(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(n) => Some(n.clone()),
            Kind::Select { operand, field, test: false, optional: false } => {
                Some(format!("{}.{field}", operand.qualified()?))
            }
            _ => None,
        }
    }

    /// Names that are not bound by a macro.
    pub fn names(&self, bound: &mut Vec<String>, out: &mut Vec<String>) {
        match &self.kind {
            Kind::Ident(n) => {
                if !bound.contains(n) && !out.contains(n) {
                    out.push(n.clone());
                }
            }
            Kind::Fold(fold) => {
                fold.range.names(bound, out);
                let before = bound.len();
                bound.push(fold.var.clone());
                bound.extend(fold.second.clone());
                fold.filter.iter().for_each(|e| e.names(bound, out));
                fold.body.names(bound, out);
                bound.truncate(before);
            }
            Kind::Bind { name, value, body } | Kind::Inside { name, value, body, .. } => {
                value.names(bound, out);
                bound.push(name.clone());
                body.names(bound, out);
                bound.pop();
            }
            _ => {
                let mut all = Vec::new();
                self.children(&mut |c| all.push(c));
                all.into_iter().for_each(|c| c.names(bound, out));
            }
        }
    }
}
