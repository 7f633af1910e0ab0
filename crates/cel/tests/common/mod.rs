//! Expressions over a map `x` and a number `n`, evaluated.

use cel::{Env, Type, Value};

pub fn run(source: &str, budget: &mut u64) -> Result<Value, String> {
    let x: cel::Map = [(cel::value::Key::String("a".into()), Value::Int(1))].into();
    let env = Env::new(vec![("x".into(), Type::Dyn), ("n".into(), Type::Int)]);
    let p = env.compile(source, None).map_err(|e| e.message)?;
    p.eval(&[("x", Value::Map(x.into())), ("n", Value::Int(7))], budget).map_err(|e| e.to_string())
}

pub fn eval(source: &str) -> Result<Value, String> {
    run(source, &mut 100_000)
}

/// Each of these is true; all that are not are told.
pub fn holds(all: &[&str]) {
    let told = all.iter().map(|s| (s, eval(s))).filter(|(_, v)| !matches!(v, Ok(Value::Bool(true))));
    let wrong: Vec<String> = told.map(|(s, v)| format!("{s}: {v:?}")).collect();
    assert_eq!(wrong, [""; 0]);
}
