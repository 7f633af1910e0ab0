//! How a value of a type merges: a thin view over `api::schema` in the three shapes that merging knows (scalar, list,
//! map), with what upstream's converter from OpenAPI derives for each. Untyped data has two rules of its own:
//! "deduced" (maps merge, lists are atomic) and "untyped" (everything is atomic). Copies freely, owns nothing.

use api::schema::{Definition, Field, GoKind, ListType, MapType, Omit, Text, Type as Api};
use serde_json::{Map as Json, Value};

/// A type, seen from the place it is used at (a field may override how its struct merges).
#[derive(Debug, Clone, Copy)]
pub struct Type<'a>(Kind<'a>);

#[derive(Debug, Clone, Copy)]
enum Kind<'a> {
    Definition(&'a Definition),
    Field(&'a Field),
    Bare(&'a Api),
    Deduced,
    Untyped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

/// The shapes a value of the type may have; usually exactly one.
#[derive(Debug, Clone, Copy)]
pub struct Atom<'a> {
    pub scalar: Option<Scalar>,
    pub list: Option<List<'a>>,
    pub map: Option<Map<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    pub order: ListOrder<'a>,
    pub element: Type<'a>,
}

/// How the elements of a list relate.
#[derive(Debug, Clone, Copy)]
pub enum ListOrder<'a> {
    Atomic,
    Set,
    /// Elements are known by these fields.
    Keyed(Keys<'a>),
}

#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    Many(&'a [Text]),
    One(&'a Text),
}

impl<'a> Keys<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let slice = match self {
            Keys::Many(k) => k,
            Keys::One(k) => std::slice::from_ref(k),
        };
        slice.iter().map(|k| k.as_ref())
    }
}

/// A struct, a map, or both.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    pub atomic: bool,
    definition: Option<&'a Definition>,
    element: Option<Type<'a>>,
}

/// Shorthand for a schema handed around by value.
pub type Schema<'a> = Type<'a>;

impl<'a> Type<'a> {
    /// Objects without a schema: maps merge field by field, lists are atomic.
    pub const DEDUCED: Type<'static> = Type(Kind::Deduced);
    /// Data that is owned as a whole whatever it is.
    pub const UNTYPED: Type<'static> = Type(Kind::Untyped);

    pub fn of(definition: &'a Definition) -> Self {
        Type(Kind::Definition(definition))
    }

    pub fn of_field(field: &'a Field) -> Self {
        Type(Kind::Field(field))
    }

    /// The struct behind the type.
    pub fn definition(self) -> Option<&'a Definition> {
        match self.0 {
            Kind::Definition(d) => Some(d),
            Kind::Field(f) => f.ty.definition(),
            Kind::Bare(t) => t.definition(),
            Kind::Deduced | Kind::Untyped => None,
        }
    }

    /// The type of the elements, if this is a list or a map.
    pub fn element(self) -> Option<Type<'a>> {
        let t = match self.0 {
            Kind::Field(f) => &f.ty,
            Kind::Bare(t) => t,
            Kind::Definition(_) => return None,
            Kind::Deduced | Kind::Untyped => return Some(self),
        };
        t.element().map(|e| Type(Kind::Bare(e)))
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self.0, Kind::Field(Field { ty: Api::Array(_), .. }) | Kind::Bare(Api::Array(_)))
    }

    pub(crate) fn is_nested_list(self) -> bool {
        self.is_list() && self.element().is_some_and(Type::is_list)
    }

    pub fn atom(self) -> Atom<'a> {
        let none = Atom { scalar: None, list: None, map: None };
        let (ty, field) = match self.0 {
            Kind::Definition(d) => return Atom { map: Some(Map::of(d, None)), ..none },
            Kind::Field(f) => (&f.ty, Some(f)),
            Kind::Bare(t) => (t, None),
            Kind::Deduced => return any(Type::DEDUCED, false),
            Kind::Untyped => return any(Type::UNTYPED, true),
        };
        let scalar = |s| Atom { scalar: Some(s), ..none };
        match ty {
            Api::Ref(_) | Api::Object(_) => {
                let map = ty.definition().map(|d| Map::of(d, field.and_then(|f| f.map_type)));
                Atom { map, ..none }
            }
            Api::String | Api::Bytes => scalar(Scalar::String),
            Api::Int32 | Api::Int64 | Api::Number => scalar(Scalar::Numeric),
            Api::Boolean => scalar(Scalar::Boolean),
            Api::Quantity | Api::IntOrString | Api::Time | Api::MicroTime => scalar(Scalar::Untyped),
            Api::Array(e) => {
                Atom { list: Some(List { order: order(field), element: Type(Kind::Bare(e)) }), ..none }
            }
            Api::Map(e) => {
                let atomic = field.is_some_and(|f| f.map_type == Some(MapType::Atomic));
                Atom {
                    map: Some(Map { atomic, definition: None, element: Some(Type(Kind::Bare(e))) }),
                    ..none
                }
            }
            Api::RawObject => any(Type::UNTYPED, true),
            Api::Fields => Atom { map: any(Type::DEDUCED, false).map, ..none },
            Api::Any | Api::SchemaOrArray | Api::SchemaOrBool | Api::SchemaOrStrings => {
                any(Type::DEDUCED, field.is_some_and(|f| f.map_type == Some(MapType::Atomic)))
            }
        }
    }
}

fn order(field: Option<&Field>) -> ListOrder<'_> {
    let Some(f) = field else { return ListOrder::Atomic };
    match (f.list_type, &f.merge_key) {
        (Some(ListType::Map), _) if !f.list_map_keys.is_empty() => {
            ListOrder::Keyed(Keys::Many(&f.list_map_keys))
        }
        (Some(ListType::Set), _) => ListOrder::Set,
        // Lists from before list types say it with the patch strategy.
        (None, Some(key)) if f.patch.merge => ListOrder::Keyed(Keys::One(key)),
        (None, None) if f.patch.merge => ListOrder::Set,
        _ => ListOrder::Atomic,
    }
}

fn any(inner: Type<'static>, atomic: bool) -> Atom<'static> {
    Atom {
        scalar: Some(Scalar::Untyped),
        list: Some(List { order: ListOrder::Atomic, element: Type::UNTYPED }),
        map: Some(Map { atomic, definition: None, element: Some(inner) }),
    }
}

impl<'a> Map<'a> {
    fn of(d: &'a Definition, over: Option<MapType>) -> Self {
        let atomic = match over {
            Some(m) => m == MapType::Atomic,
            None => d.atomic,
        };
        let element = match &d.additional {
            Some(t) => Some(Type(Kind::Bare(t))),
            // An object with no fields listed is free-form.
            None if d.preserve_unknown || d.fields.is_empty() => Some(Type::DEDUCED),
            None => None,
        };
        Map { atomic, definition: Some(d), element }
    }

    /// A field by name; maps have none.
    pub fn field(&self, name: &str) -> Option<&'a Field> {
        self.definition.and_then(|d| d.field(name))
    }

    /// The type of what stands under a name; `None` when the schema allows no such name.
    pub fn child(&self, name: &str) -> Option<Type<'a>> {
        self.field(name).map(Type::of_field).or(self.element)
    }

    /// Free-form through and through: what was owned before is never reinterpreted.
    pub(crate) fn is_free_form(&self) -> bool {
        matches!(self.element, Some(Type(Kind::Deduced)))
            && self.definition.is_none_or(|d| d.fields.is_empty())
    }
}

/// What upstream's zero value of the type encodes to: structs are there even when empty, and so nobody owns them.
pub fn empty_object(d: &Definition) -> Value {
    let mut out = Json::new();
    for f in &d.fields {
        let zero = match (f.omit, f.go, f.ty.definition()) {
            (Omit::Never | Omit::Empty, GoKind::Struct, Some(inner)) => empty_object(inner),
            (Omit::Never, GoKind::String, _) => Value::from(""),
            (Omit::Never, GoKind::Number, _) => Value::from(0),
            (Omit::Never, GoKind::Bool, _) => Value::from(false),
            (Omit::Never, _, _) => Value::Null,
            _ => continue,
        };
        out.insert(f.name.to_string(), zero);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn def(id: &str) -> &'static Definition {
        api::schema::definition(id).unwrap()
    }

    fn order_name(path: &[&str]) -> String {
        let f = def("io.k8s.api.core.v1.PodSpec").at(path).unwrap();
        match Type::of_field(f).atom().list.unwrap().order {
            ListOrder::Atomic => "atomic".into(),
            ListOrder::Set => "set".into(),
            ListOrder::Keyed(k) => k.iter().collect::<Vec<_>>().join(","),
        }
    }

    #[test]
    fn relations_are_upstreams() {
        assert_eq!(order_name(&["containers"]), "name");
        assert_eq!(order_name(&["containers", "ports"]), "containerPort,protocol");
        assert_eq!(order_name(&["tolerations"]), "atomic");
        assert_eq!(order_name(&["containers", "args"]), "atomic");
        let meta = def("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let finalizers = Type::of_field(meta.field("finalizers").unwrap()).atom();
        assert!(matches!(finalizers.list.unwrap().order, ListOrder::Set));
        let spec = Type::of(def("io.k8s.api.core.v1.PodSpec")).atom().map.unwrap();
        assert!(spec.child("nodeSelector").unwrap().atom().map.unwrap().atomic);
        assert!(spec.child("nope").is_none());
        let pv = Type::of(def("io.k8s.api.core.v1.PersistentVolumeSpec")).atom().map.unwrap();
        assert!(!pv.child("claimRef").unwrap().atom().map.unwrap().atomic, "the field overrides its type");
    }

    #[test]
    fn empty_objects_hold_their_structs() {
        let d = empty_object(def("io.k8s.api.apps.v1.Deployment"));
        assert_eq!(d["spec"]["strategy"], json!({}));
        assert_eq!(d["spec"]["template"]["spec"]["containers"], Value::Null);
        assert!(d["spec"]["template"]["metadata"].is_object());
        assert!(d["spec"].get("replicas").is_none());
        assert_eq!(d["status"], json!({}));
    }
}
