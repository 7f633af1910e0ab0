//! Operators, comparisons and conversions.

use std::cmp::Ordering;

use super::{Function, value};
use crate::value::Value;

type R = Result<Value, String>;

const OVERFLOW: &str = "integer overflow";

fn two(a: &[Value]) -> Result<(&Value, &Value), String> {
    Ok((value(a, 0)?, value(a, 1)?))
}

fn whole(n: Option<i64>) -> R {
    n.map(Value::Int).ok_or_else(|| OVERFLOW.into())
}

fn unsigned(n: Option<u64>) -> R {
    n.map(Value::Uint).ok_or_else(|| "unsigned integer overflow".into())
}

fn none<T>() -> Result<T, String> {
    Err("no such overload".into())
}

fn add(a: &[Value]) -> R {
    Ok(match two(a)? {
        (Value::Int(x), Value::Int(y)) => return whole(x.checked_add(*y)),
        (Value::Uint(x), Value::Uint(y)) => return unsigned(x.checked_add(*y)),
        (Value::Double(x), Value::Double(y)) => Value::Double(x + y),
        (Value::String(x), Value::String(y)) => Value::from(format!("{x}{y}")),
        (Value::Bytes(x), Value::Bytes(y)) => Value::Bytes([&x[..], &y[..]].concat().into()),
        (Value::List(x), Value::List(y)) => Value::from([&x[..], &y[..]].concat()),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => {
            return t
                .checked_add(jiff::SignedDuration::from_nanos(*d))
                .map(Value::Timestamp)
                .map_err(|_| "timestamp overflow".to_owned());
        }
        (Value::Duration(x), Value::Duration(y)) => {
            return x.checked_add(*y).map(Value::Duration).ok_or_else(|| "duration overflow".into());
        }
        _ => return none(),
    })
}

fn subtract(a: &[Value]) -> R {
    Ok(match two(a)? {
        (Value::Int(x), Value::Int(y)) => return whole(x.checked_sub(*y)),
        (Value::Uint(x), Value::Uint(y)) => return unsigned(x.checked_sub(*y)),
        (Value::Double(x), Value::Double(y)) => Value::Double(x - y),
        (Value::Timestamp(t), Value::Duration(d)) => {
            return t
                .checked_sub(jiff::SignedDuration::from_nanos(*d))
                .map(Value::Timestamp)
                .map_err(|_| "timestamp overflow".to_owned());
        }
        (Value::Timestamp(x), Value::Timestamp(y)) => {
            let n = x.as_nanosecond() - y.as_nanosecond();
            return i64::try_from(n).map(Value::Duration).map_err(|_| "duration overflow".to_owned());
        }
        (Value::Duration(x), Value::Duration(y)) => {
            return x.checked_sub(*y).map(Value::Duration).ok_or_else(|| "duration overflow".into());
        }
        _ => return none(),
    })
}

fn multiply(a: &[Value]) -> R {
    Ok(match two(a)? {
        (Value::Int(x), Value::Int(y)) => return whole(x.checked_mul(*y)),
        (Value::Uint(x), Value::Uint(y)) => return unsigned(x.checked_mul(*y)),
        (Value::Double(x), Value::Double(y)) => Value::Double(x * y),
        _ => return none(),
    })
}

fn divide(a: &[Value]) -> R {
    Ok(match two(a)? {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err("division by zero".into());
        }
        (Value::Int(x), Value::Int(y)) => return whole(x.checked_div(*y)),
        (Value::Uint(x), Value::Uint(y)) => Value::Uint(x / y),
        (Value::Double(x), Value::Double(y)) => Value::Double(x / y),
        _ => return none(),
    })
}

fn modulo(a: &[Value]) -> R {
    Ok(match two(a)? {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err("modulus by zero".into());
        }
        (Value::Int(x), Value::Int(y)) => return whole(x.checked_rem(*y)),
        (Value::Uint(x), Value::Uint(y)) => Value::Uint(x % y),
        _ => return none(),
    })
}

fn negate(a: &[Value]) -> R {
    Ok(match value(a, 0)? {
        Value::Int(x) => return whole(x.checked_neg()),
        Value::Double(x) => Value::Double(-x),
        Value::Duration(d) => {
            return d.checked_neg().map(Value::Duration).ok_or_else(|| "duration overflow".into());
        }
        _ => return none(),
    })
}

fn not(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Bool(b) => Ok(Value::Bool(!b)),
        _ => none(),
    }
}

fn equal(a: &[Value]) -> R {
    let (x, y) = two(a)?;
    Ok(Value::Bool(x.equals(y)))
}

fn differs(a: &[Value]) -> R {
    let (x, y) = two(a)?;
    Ok(Value::Bool(!x.equals(y)))
}

fn compare(a: &[Value], right: fn(Ordering) -> bool) -> R {
    let (x, y) = two(a)?;
    match x.order(y) {
        Some(o) => Ok(Value::Bool(right(o))),
        // Not a number is neither above nor below.
        None if matches!((x, y), (Value::Double(_), _) | (_, Value::Double(_))) => Ok(Value::Bool(false)),
        None => none(),
    }
}

fn less(a: &[Value]) -> R {
    compare(a, Ordering::is_lt)
}
fn less_equal(a: &[Value]) -> R {
    compare(a, Ordering::is_le)
}
fn greater(a: &[Value]) -> R {
    compare(a, Ordering::is_gt)
}
fn greater_equal(a: &[Value]) -> R {
    compare(a, Ordering::is_ge)
}

fn within(a: &[Value]) -> R {
    Ok(Value::Bool(match two(a)? {
        (x, Value::List(l)) => l.iter().any(|y| x.equals(y)),
        (x, Value::Map(m)) => x.key().is_some_and(|k| m.contains_key(&k)),
        _ => return none(),
    }))
}

fn to_int(a: &[Value]) -> R {
    whole(match value(a, 0)? {
        Value::Int(i) => Some(*i),
        Value::Uint(u) => i64::try_from(*u).ok(),
        // The doubles next to the ends do not fit.
        Value::Double(d) if d.abs() < 9.223_372_036_854_775e18 => Some(d.trunc() as i64),
        Value::Double(_) => None,
        Value::String(s) => return s.parse().map(Value::Int).map_err(|_| conversion(s, "int")),
        Value::Timestamp(t) => Some(t.as_second()),
        Value::Duration(d) => Some(*d),
        _ => return none(),
    })
}

fn to_uint(a: &[Value]) -> R {
    unsigned(match value(a, 0)? {
        Value::Int(i) => u64::try_from(*i).ok(),
        Value::Uint(u) => Some(*u),
        Value::Double(d) if *d > -1.0 && *d < 1.844_674_407_370_955e19 => Some(d.trunc() as u64),
        Value::Double(_) => None,
        Value::String(s) => return s.parse().map(Value::Uint).map_err(|_| conversion(s, "uint")),
        _ => return none(),
    })
}

fn to_double(a: &[Value]) -> R {
    Ok(Value::Double(match value(a, 0)? {
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        Value::Double(d) => *d,
        Value::String(s) => return s.parse().map(Value::Double).map_err(|_| conversion(s, "double")),
        _ => return none(),
    }))
}

fn to_bool(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(s) => match s.as_ref() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(conversion(s, "bool")),
        },
        _ => none(),
    }
}

fn conversion(s: &str, to: &str) -> String {
    format!("type conversion error from 'string' to '{to}': {s:?}")
}

fn to_bytes(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::String(s) => Ok(Value::Bytes(s.as_bytes().into())),
        b @ Value::Bytes(_) => Ok(b.clone()),
        _ => none(),
    }
}

fn type_of(a: &[Value]) -> R {
    Ok(Value::Type(value(a, 0)?.type_name().into()))
}

fn same(a: &[Value]) -> R {
    value(a, 0).cloned()
}

pub const ALL: &[(&str, Function)] = &[
    ("_+_(int,int)->int", add),
    ("_+_(uint,uint)->uint", add),
    ("_+_(double,double)->double", add),
    ("_+_(string,string)->string", add),
    ("_+_(bytes,bytes)->bytes", add),
    ("_+_(list(A),list(A))->list(A)", add),
    ("_+_(timestamp,duration)->timestamp", add),
    ("_+_(duration,timestamp)->timestamp", add),
    ("_+_(duration,duration)->duration", add),
    ("_-_(int,int)->int", subtract),
    ("_-_(uint,uint)->uint", subtract),
    ("_-_(double,double)->double", subtract),
    ("_-_(timestamp,duration)->timestamp", subtract),
    ("_-_(timestamp,timestamp)->duration", subtract),
    ("_-_(duration,duration)->duration", subtract),
    ("_*_(int,int)->int", multiply),
    ("_*_(uint,uint)->uint", multiply),
    ("_*_(double,double)->double", multiply),
    ("_/_(int,int)->int", divide),
    ("_/_(uint,uint)->uint", divide),
    ("_/_(double,double)->double", divide),
    ("_%_(int,int)->int", modulo),
    ("_%_(uint,uint)->uint", modulo),
    ("-_(int)->int", negate),
    ("-_(double)->double", negate),
    ("-_(duration)->duration", negate),
    ("!_(bool)->bool", not),
    ("_==_(A,A)->bool", equal),
    ("_!=_(A,A)->bool", differs),
    ("_<_(bool,bool)->bool", less),
    ("_<_(int,int)->bool", less),
    ("_<_(int,uint)->bool", less),
    ("_<_(int,double)->bool", less),
    ("_<_(uint,int)->bool", less),
    ("_<_(uint,uint)->bool", less),
    ("_<_(uint,double)->bool", less),
    ("_<_(double,int)->bool", less),
    ("_<_(double,uint)->bool", less),
    ("_<_(double,double)->bool", less),
    ("_<_(string,string)->bool", less),
    ("_<_(bytes,bytes)->bool", less),
    ("_<_(timestamp,timestamp)->bool", less),
    ("_<_(duration,duration)->bool", less),
    ("_<=_(bool,bool)->bool", less_equal),
    ("_<=_(int,int)->bool", less_equal),
    ("_<=_(int,uint)->bool", less_equal),
    ("_<=_(int,double)->bool", less_equal),
    ("_<=_(uint,int)->bool", less_equal),
    ("_<=_(uint,uint)->bool", less_equal),
    ("_<=_(uint,double)->bool", less_equal),
    ("_<=_(double,int)->bool", less_equal),
    ("_<=_(double,uint)->bool", less_equal),
    ("_<=_(double,double)->bool", less_equal),
    ("_<=_(string,string)->bool", less_equal),
    ("_<=_(bytes,bytes)->bool", less_equal),
    ("_<=_(timestamp,timestamp)->bool", less_equal),
    ("_<=_(duration,duration)->bool", less_equal),
    ("_>_(bool,bool)->bool", greater),
    ("_>_(int,int)->bool", greater),
    ("_>_(int,uint)->bool", greater),
    ("_>_(int,double)->bool", greater),
    ("_>_(uint,int)->bool", greater),
    ("_>_(uint,uint)->bool", greater),
    ("_>_(uint,double)->bool", greater),
    ("_>_(double,int)->bool", greater),
    ("_>_(double,uint)->bool", greater),
    ("_>_(double,double)->bool", greater),
    ("_>_(string,string)->bool", greater),
    ("_>_(bytes,bytes)->bool", greater),
    ("_>_(timestamp,timestamp)->bool", greater),
    ("_>_(duration,duration)->bool", greater),
    ("_>=_(bool,bool)->bool", greater_equal),
    ("_>=_(int,int)->bool", greater_equal),
    ("_>=_(int,uint)->bool", greater_equal),
    ("_>=_(int,double)->bool", greater_equal),
    ("_>=_(uint,int)->bool", greater_equal),
    ("_>=_(uint,uint)->bool", greater_equal),
    ("_>=_(uint,double)->bool", greater_equal),
    ("_>=_(double,int)->bool", greater_equal),
    ("_>=_(double,uint)->bool", greater_equal),
    ("_>=_(double,double)->bool", greater_equal),
    ("_>=_(string,string)->bool", greater_equal),
    ("_>=_(bytes,bytes)->bool", greater_equal),
    ("_>=_(timestamp,timestamp)->bool", greater_equal),
    ("_>=_(duration,duration)->bool", greater_equal),
    ("@in(A,list(A))->bool", within),
    ("@in(A,map(A,B))->bool", within),
    ("int(int)->int", to_int),
    ("int(uint)->int", to_int),
    ("int(double)->int", to_int),
    ("int(string)->int", to_int),
    ("int(timestamp)->int", to_int),
    ("int(duration)->int", to_int),
    ("uint(int)->uint", to_uint),
    ("uint(uint)->uint", to_uint),
    ("uint(double)->uint", to_uint),
    ("uint(string)->uint", to_uint),
    ("double(int)->double", to_double),
    ("double(uint)->double", to_double),
    ("double(double)->double", to_double),
    ("double(string)->double", to_double),
    ("bool(bool)->bool", to_bool),
    ("bool(string)->bool", to_bool),
    ("bytes(string)->bytes", to_bytes),
    ("bytes(bytes)->bytes", to_bytes),
    ("type(A)->type", type_of),
    ("dyn(A)->dyn", same),
];
