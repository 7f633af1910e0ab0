//! The type check: every name is declared, every field exists, every call has an overload that fits.

use std::collections::HashMap;

use crate::ast::{Expr, Fold, FoldKind, Kind};
use crate::functions::{Overload, Table};
use crate::types::{Bindings, Type};
use crate::value::Value;
use crate::{CompileError, Env};

/// Names of types that are values too (`type(x) == int`).
pub const TYPE_NAMES: [&str; 12] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
];

/// The types of an expression's parts, while the expression stays where it is.
#[derive(Default)]
pub struct Types(HashMap<usize, Type>);

impl Types {
    /// `None`: no value, but the name before a function's or a variable's.
    pub fn of(&self, e: &Expr) -> Option<&Type> {
        self.0.get(&address(e))
    }
}

fn address(e: &Expr) -> usize {
    std::ptr::from_ref(e).addr()
}

struct Checker<'a> {
    env: &'a Env,
    scope: Vec<(String, Type)>,
    /// Kept where somebody asks for them.
    types: Option<Types>,
}

type Checked = Result<Type, CompileError>;

fn fail<T>(offset: usize, message: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError { offset, message: message.into() })
}

pub fn check(e: &Expr, env: &Env) -> Checked {
    Checker { env, scope: env.variables.clone(), types: None }.expr(e)
}

/// The types of the parts of an expression that was checked before.
pub fn types(e: &Expr, env: &Env) -> Types {
    let mut c = Checker { env, scope: env.variables.clone(), types: Some(Types::default()) };
    let _ = c.expr(e);
    c.types.unwrap_or_default()
}

/// The overloads that take arguments of these types, the one before the dot first, and what they give.
pub fn fitting<'t>(
    functions: &'t Table,
    name: &str,
    member: bool,
    types: &'t [Type],
) -> impl Iterator<Item = (&'t Overload, Type)> {
    functions.overloads(name).iter().filter_map(move |o| {
        let mut bound = Bindings::new();
        let fits = o.member == member
            && o.args.len() == types.len()
            && o.args.iter().zip(types).all(|(formal, actual)| formal.accepts(actual, &mut bound));
        fits.then(|| (o, o.result.substitute(&bound)))
    })
}

/// `a` and `b` of `a.b`, for functions in a namespace.
pub fn namespaced(target: &Expr, name: &str) -> Option<String> {
    match &target.kind {
        Kind::Ident(n) => Some(format!("{n}.{name}")),
        _ => None,
    }
}

impl Checker<'_> {
    fn variable(&self, name: &str) -> Option<&Type> {
        self.scope.iter().rev().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    fn expr(&mut self, e: &Expr) -> Checked {
        let t = self.part(e)?;
        if let Some(Types(all)) = &mut self.types {
            all.insert(address(e), t.clone());
        }
        Ok(t)
    }

    fn part(&mut self, e: &Expr) -> Checked {
        match &e.kind {
            Kind::Literal(v) => Ok(match v {
                Value::Null => Type::Null,
                Value::Bool(_) => Type::Bool,
                Value::Int(_) => Type::Int,
                Value::Uint(_) => Type::Uint,
                Value::Double(_) => Type::Double,
                Value::String(_) => Type::String,
                Value::Bytes(_) => Type::Bytes,
                _ => Type::Dyn,
            }),
            Kind::Ident(n) => match self.variable(n) {
                Some(t) => Ok(t.clone()),
                None if TYPE_NAMES.contains(&n.as_str()) => Ok(Type::Type),
                None => fail(e.at, format!("undeclared reference to '{n}' (in container '')")),
            },
            Kind::Select { operand, field, test, optional } => {
                if let Kind::Ident(n) = &operand.kind
                    && let Some(t) = self.variable(&format!("{n}.{field}"))
                {
                    return Ok(if *test { Type::Bool } else { t.clone() });
                }
                let t = self.expr(operand)?;
                let (t, chained) = match t {
                    Type::Optional(t) => ((*t).clone(), true),
                    t => (t, false),
                };
                let found = match &t {
                    Type::Dyn | Type::Message(_) => Type::Dyn,
                    Type::Map(_, v) => (**v).clone(),
                    Type::Object(o) => match o.fields.get(field) {
                        Some(t) => t.clone(),
                        None => return fail(e.at, format!("undefined field '{field}'")),
                    },
                    t => return fail(e.at, format!("type '{t}' does not support field selection")),
                };
                Ok(match (test, *optional || chained) {
                    (true, _) => Type::Bool,
                    (false, true) => wrap(found),
                    (false, false) => found,
                })
            }
            Kind::Index { operand, index, optional } => self.index(e, operand, index, *optional),
            Kind::Call { name, target, args } => self.call(e, name, target.as_deref(), args),
            Kind::Logic { and, terms } => {
                for t in terms {
                    let got = self.expr(t)?;
                    if !got.assignable(&Type::Bool) {
                        let op = if *and { "_&&_" } else { "_||_" };
                        return fail(e.at, no_overload(op, &[got, Type::Bool]));
                    }
                }
                Ok(Type::Bool)
            }
            Kind::Conditional { test, then, other } => {
                let t = self.expr(test)?;
                let (a, b) = (self.expr(then)?, self.expr(other)?);
                if !t.assignable(&Type::Bool) || !(a.assignable(&b) || b.assignable(&a)) {
                    return fail(e.at, no_overload("_?_:_", &[t, a, b]));
                }
                Ok(a.join(&b))
            }
            Kind::List(items) => {
                let mut all: Option<Type> = None;
                for (item, optional) in items {
                    let t = unwrap(self.expr(item)?, *optional);
                    all = Some(all.map_or(t.clone(), |a| a.join(&t)));
                }
                Ok(Type::list(all.unwrap_or(Type::Dyn)))
            }
            Kind::Map(entries) => {
                let mut all: Option<(Type, Type)> = None;
                for (k, v, optional) in entries {
                    let (k, v) = (self.expr(k)?, unwrap(self.expr(v)?, *optional));
                    all = Some(match all {
                        None => (k, v),
                        Some((a, b)) => (a.join(&k), b.join(&v)),
                    });
                }
                let (k, v) = all.unwrap_or((Type::Dyn, Type::Dyn));
                Ok(Type::map(k, v))
            }
            Kind::Message { name, fields } => self.message(e, name, fields),
            Kind::Fold(fold) => self.fold(fold, e.at),
            // Other macros bind too, to names that nobody can write.
            Kind::Bind { name, .. } if !name.starts_with('@') && self.env.refused.contains(&"cel.bind") => {
                fail(e.at, "undeclared reference to 'cel' (in container '')")
            }
            Kind::Bind { name, value, body } => {
                let t = self.expr(value)?;
                self.scope.push((name.clone(), t));
                let body = self.expr(body);
                self.scope.pop();
                body
            }
            Kind::Inside { name, value, body, flat } => self.inside(e, name, value, body, *flat),
        }
    }

    fn inside(&mut self, e: &Expr, name: &str, value: &Expr, body: &Expr, flat: bool) -> Checked {
        let t = match self.expr(value)? {
            Type::Optional(t) => (*t).clone(),
            Type::Dyn => Type::Dyn,
            t => return fail(e.at, format!("found no matching overload for 'hasValue' applied to '{t}.()'")),
        };
        self.scope.push((name.into(), t));
        let body = self.expr(body);
        self.scope.pop();
        match body? {
            t if !flat => Ok(Type::optional(t)),
            t @ (Type::Optional(_) | Type::Dyn) => Ok(t),
            t => fail(e.at, no_overload("_?_:_", &[Type::Bool, t, Type::optional(Type::Dyn)])),
        }
    }

    fn message(&mut self, e: &Expr, name: &str, fields: &[(String, Expr, bool)]) -> Checked {
        let Some(known) = (self.env.messages)(name) else {
            return fail(e.at, format!("undeclared reference to '{name}' (in container '')"));
        };
        for (field, value, optional) in fields {
            let got = unwrap(self.expr(value)?, *optional);
            let Some(known) = known else { continue };
            let Some((_, wanted)) = known.iter().find(|(n, _)| n == field) else {
                return fail(value.at, format!("undefined field '{field}'"));
            };
            if !got.assignable(wanted) {
                return fail(
                    value.at,
                    format!("expected type of field '{field}' is '{wanted}' but provided type is '{got}'"),
                );
            }
        }
        Ok(Type::Message(name.into()))
    }

    fn index(&mut self, e: &Expr, operand: &Expr, index: &Expr, optional: bool) -> Checked {
        let (t, i) = (self.expr(operand)?, self.expr(index)?);
        let (t, chained) = match t {
            Type::Optional(t) => ((*t).clone(), true),
            t => (t, false),
        };
        let number = |i: &Type| matches!(i, Type::Int | Type::Uint | Type::Double | Type::Dyn);
        let found = match &t {
            Type::Dyn => Type::Dyn,
            Type::List(t) if number(&i) => (**t).clone(),
            Type::Map(k, v) if i.assignable(k) || (number(&i) && number(k)) => (**v).clone(),
            t => return fail(e.at, no_overload("_[_]", &[t.clone(), i])),
        };
        Ok(if optional || chained { wrap(found) } else { found })
    }

    fn call(&mut self, e: &Expr, name: &str, target: Option<&Expr>, args: &[Expr]) -> Checked {
        // A function in a namespace, unless the name before the dot is a variable.
        if let Some(t) = target
            && let Some(full) = namespaced(t, name)
            && let Kind::Ident(n) = &t.kind
            && self.variable(n).is_none()
            && self.env.functions.knows(&full)
        {
            return self.call(e, &full, None, args);
        }
        let mut types = Vec::with_capacity(args.len() + 1);
        if let Some(t) = target {
            types.push(self.expr(t)?);
        }
        for a in args {
            types.push(self.expr(a)?);
        }
        if !self.env.functions.knows(name) || self.env.refused.contains(&name) {
            return fail(e.at, format!("undeclared reference to '{name}' (in container '')"));
        }
        let all = fitting(&self.env.functions, name, target.is_some(), &types).map(|(_, t)| t);
        match all.reduce(|a, b| a.join(&b)) {
            Some(t) => Ok(t),
            None if target.is_some() => {
                let (t, rest) = types.split_first().map_or((Type::Dyn, &[][..]), |(t, r)| (t.clone(), r));
                let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
                fail(
                    e.at,
                    format!("found no matching overload for '{name}' applied to '{t}.({})'", rest.join(", ")),
                )
            }
            None => fail(e.at, no_overload(name, &types)),
        }
    }

    fn fold(&mut self, f: &Fold, at: usize) -> Checked {
        let range = self.expr(&f.range)?;
        let (first, second) = match (&range, &f.second) {
            (Type::Dyn, _) => (Type::Dyn, Type::Dyn),
            (Type::List(t), None) => ((**t).clone(), Type::Dyn),
            (Type::List(t), Some(_)) => (Type::Int, (**t).clone()),
            (Type::Map(k, v), _) => ((**k).clone(), (**v).clone()),
            (Type::Object(_), _) => (Type::String, Type::Dyn),
            (t, _) => {
                return fail(
                    f.range.at,
                    format!(
                        "expression of type '{t}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
            }
        };
        let before = self.scope.len();
        self.scope.push((f.var.clone(), first.clone()));
        if let Some(s) = &f.second {
            self.scope.push((s.clone(), second));
        }
        let filter = f.filter.as_ref().map(|e| (e.at, self.expr(e)));
        let body = self.expr(&f.body);
        self.scope.truncate(before);
        let boolean = |at: usize, t: &Type| {
            if t.assignable(&Type::Bool) {
                return Ok(());
            }
            fail(at, format!("expected type 'bool' but found '{t}'"))
        };
        if let Some((at, t)) = filter {
            boolean(at, &t?)?;
        }
        let body = body?;
        Ok(match f.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                boolean(f.body.at, &body)?;
                Type::Bool
            }
            FoldKind::Filter => {
                boolean(f.body.at, &body)?;
                Type::list(first)
            }
            FoldKind::Map | FoldKind::TransformList => Type::list(body),
            FoldKind::TransformMap => Type::map(first, body),
            FoldKind::TransformMapEntry => match body {
                t @ (Type::Map(..) | Type::Dyn) => t,
                Type::Object(_) => Type::map(Type::String, Type::Dyn),
                t => {
                    let empty = Type::map(Type::Dyn, Type::Dyn);
                    return fail(at, no_overload("cel.@mapInsert", &[empty, t]));
                }
            },
        })
    }
}

fn wrap(t: Type) -> Type {
    if matches!(t, Type::Optional(_)) { t } else { Type::optional(t) }
}

fn unwrap(t: Type, optional: bool) -> Type {
    match t {
        Type::Optional(t) if optional => (*t).clone(),
        t => t,
    }
}

fn no_overload(name: &str, types: &[Type]) -> String {
    let all: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!("found no matching overload for '{name}' applied to '({})'", all.join(", "))
}
