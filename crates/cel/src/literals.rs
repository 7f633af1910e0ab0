//! What upstream asks of literals beyond their types: durations, times and patterns that are right, and lists and maps
//! whose parts are of one type. Pure.

use crate::ast::{Expr, Kind};
use crate::check::{self, Types};
use crate::functions::Table;
use crate::types::Type;
use crate::value::Value;
use crate::{CompileError, Env, eval, patterns};

/// The first fault.
pub fn check(e: &Expr, env: &Env) -> Result<(), CompileError> {
    let mut collections = false;
    walk(e, &mut |part| {
        collections |= matches!(&part.kind, Kind::List(items) if items.len() > 1);
        collections |= matches!(&part.kind, Kind::Map(entries) if entries.len() > 1);
        arguments(part, env.functions()).map(|()| true)
    })?;
    if !collections {
        return Ok(());
    }
    let types = check::types(e, env);
    walk(e, &mut |part| of_one_type(part, &types))
}

/// `f` says whether to go on inside of what it was shown.
fn walk(e: &Expr, f: &mut impl FnMut(&Expr) -> Result<bool, CompileError>) -> Result<(), CompileError> {
    let mut result = Ok(());
    if f(e)? {
        e.children(&mut |c| {
            if result.is_ok() {
                result = walk(c, f);
            }
        });
    }
    result
}

fn arguments(e: &Expr, functions: &Table) -> Result<(), CompileError> {
    let Kind::Call { name, args, .. } = &e.kind else { return Ok(()) };
    let Some(Expr { kind: Kind::Literal(literal), at, .. }) = args.first() else { return Ok(()) };
    let right = match (name.as_str(), literal) {
        ("matches", Value::String(pattern)) => patterns::compile(pattern).is_ok(),
        ("duration" | "timestamp", _) => eval::run(e, functions, &[], &mut 1000).is_ok(),
        _ => true,
    };
    if right {
        return Ok(());
    }
    Err(CompileError { offset: *at, message: format!("invalid {name} argument") })
}

/// `format` takes arguments of all kinds in one list.
fn of_one_type(e: &Expr, types: &Types) -> Result<bool, CompileError> {
    match &e.kind {
        Kind::Call { name, .. } if name == "format" => return Ok(false),
        Kind::List(items) => alike(items.iter().map(|(e, optional)| (e, *optional)), types)?,
        Kind::Map(entries) => {
            alike(entries.iter().map(|(k, _, _)| (k, false)), types)?;
            alike(entries.iter().map(|(_, v, optional)| (v, *optional)), types)?;
        }
        _ => {}
    }
    Ok(true)
}

fn alike<'e>(all: impl Iterator<Item = (&'e Expr, bool)>, types: &Types) -> Result<(), CompileError> {
    let mut first: Option<&Type> = None;
    for (e, optional) in all {
        let Some(t) = types.of(e) else { continue };
        let t = match t {
            Type::Optional(inside) if optional => inside,
            t => t,
        };
        // What the check knows less of than upstream's does is let pass.
        if !known(t) {
            continue;
        }
        match first {
            Some(f) if f != t => {
                let message = format!("expected type '{f}' but found '{t}'");
                return Err(CompileError { offset: e.at, message });
            }
            _ => first = Some(t),
        }
    }
    Ok(())
}

fn known(t: &Type) -> bool {
    match t {
        Type::Dyn | Type::Param(_) | Type::Object(_) | Type::Message(_) | Type::Opaque(_) => false,
        Type::List(t) | Type::Optional(t) => known(t),
        Type::Map(k, v) => known(k) && known(v),
        _ => true,
    }
}
