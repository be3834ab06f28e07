//! What Postgres's own grammar sees in a statement: relations, columns,
//! functions and operators, and at which bytes.
//!
//! Knows nothing about policy or the catalog. Invariant: a node that this walk
//! does not know is refused, never skipped. The walk underneath is Postgres's
//! `raw_expression_tree_walker`, which covers what can stand in SELECT, INSERT,
//! UPDATE, DELETE and MERGE; utility statements are entered by hand.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{ConstValue, Node, list::NodeList, nodes};

use super::depth::{Ground, TooDeep};

/// Terms that one AND or OR may join.
const TERMS: usize = 5000;

/// In which role a relation is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Rows are read from it.
    Read,
    /// INSERT, UPDATE, DELETE or MERGE change it.
    Target,
}

/// Where a relation is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelationSite {
    /// Byte offset of the name's first part.
    pub(super) start: usize,
    /// As written, folded and truncated by the grammar.
    pub(super) catalog: Option<String>,
    /// As written.
    pub(super) schema: Option<String>,
    /// As written.
    pub(super) name: String,
    /// `FROM ONLY name`
    pub(super) only: bool,
    /// Names a common table expression in scope here.
    pub(super) cte: bool,
    /// Read or changed.
    pub(super) role: Role,
    /// Whether an alias follows.
    pub(super) aliased: bool,
}

/// Where a function is called by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FunctionSite {
    /// Byte offset of the name's first part.
    pub(super) start: usize,
    /// As written.
    pub(super) schema: Option<String>,
    /// As written.
    pub(super) name: String,
    /// The first argument, if it is a string constant.
    pub(super) literal: Option<String>,
}

/// Where a column (or a whole row) is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnSite {
    /// Byte offset of the reference.
    pub(super) start: usize,
    /// Its dotted parts; a star is `*`.
    pub(super) parts: Vec<String>,
}

/// `relation TABLESAMPLE method (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleSite {
    /// Byte offset of the relation's name.
    pub(super) relation: usize,
    /// Byte offset of the method's name.
    pub(super) method: usize,
    /// Whether its arguments are constants or parameters.
    pub(super) plain: bool,
}

/// What a statement holds, by Postgres's grammar.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    pub(super) relations: Vec<RelationSite>,
    pub(super) functions: Vec<FunctionSite>,
    pub(super) columns: Vec<ColumnSite>,
    pub(super) operators: BTreeSet<String>,
    pub(super) samples: Vec<SampleSite>,
    /// Names taken from a composite value: `(row).name`.
    pub(super) fields: Vec<String>,
    /// FOR UPDATE and its kin.
    pub(super) locks: bool,
    /// SELECT … INTO.
    pub(super) into: bool,
    /// `WHERE CURRENT OF`.
    pub(super) current_of: bool,
}

/// A construct that the survey does not know, by its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unknown(pub(super) String);

/// Common table expressions in scope, innermost last.
struct Scope<'p> {
    outer: Option<&'p Scope<'p>>,
    names: Vec<String>,
}

impl Scope<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
            || self.outer.is_some_and(|outer| outer.has(name))
    }
}

/// Whether the walk should leave a subquery in FROM alone, because it is a scan
/// that policy wrote.
pub(super) type IsScan<'s> = &'s dyn Fn(&nodes::RangeSubselect) -> bool;

/// Surveys a SELECT, VALUES, INSERT, UPDATE, DELETE or MERGE.
pub(super) fn survey(statement: Node<'_>, is_scan: IsScan<'_>) -> Result<Survey, Unknown> {
    let mut walk = Walk {
        found: Survey::default(),
        is_scan,
        ground: Ground::here(),
    };
    walk.statement(
        statement,
        &Scope {
            outer: None,
            names: Vec::new(),
        },
    )?;
    Ok(walk.found)
}

/// Surveys bare expressions: the arguments of EXECUTE.
pub(super) fn survey_expressions(list: &NodeList) -> Result<Survey, Unknown> {
    let mut walk = Walk {
        found: Survey::default(),
        is_scan: &|_| false,
        ground: Ground::here(),
    };
    let scope = Scope {
        outer: None,
        names: Vec::new(),
    };
    for node in list {
        walk.node(node, &scope, None)?;
    }
    Ok(walk.found)
}

struct Walk<'s> {
    found: Survey,
    is_scan: IsScan<'s>,
    ground: Ground,
}

impl Walk<'_> {
    fn statement(&mut self, node: Node<'_>, scope: &Scope<'_>) -> Result<(), Unknown> {
        let (with, target) = match node {
            Node::SelectStmt(select) => (select.with_clause(), None),
            Node::InsertStmt(insert) => (insert.with_clause(), insert.relation()),
            Node::UpdateStmt(update) => (update.with_clause(), update.relation()),
            Node::DeleteStmt(delete) => (delete.with_clause(), delete.relation()),
            Node::MergeStmt(merge) => (merge.with_clause(), merge.relation()),
            other => return Err(unknown(other)),
        };
        let mut inner = Scope {
            outer: Some(scope),
            names: Vec::new(),
        };
        if let Some(with) = with {
            // Without RECURSIVE, an expression sees only those before it.
            let name = |cte: &nodes::CommonTableExpr| cte.ctename().unwrap_or_default().to_owned();
            if with.recursive {
                inner.names = with.ctes().iter().map(name).collect();
            }
            for cte in with.ctes() {
                self.statement(cte.ctequery(), &inner)?;
                if !with.recursive {
                    inner.names.push(name(cte));
                }
            }
        }
        self.children(node, &inner, target.map(|relation| relation.location))
    }

    fn children(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        let stopped = walk_manual(node, |child| match self.enter(child, scope, target) {
            Ok(recurse) => ControlFlow::Continue(recurse),
            Err(unknown) => ControlFlow::Break(unknown),
        });
        stopped.map_or(Ok(()), Err)
    }

    fn node(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        match self.enter(node, scope, target)? {
            Recurse::Yes => self.children(node, scope, target),
            Recurse::No => Ok(()),
        }
    }

    fn enter(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<Recurse, Unknown> {
        self.ground
            .check()
            .map_err(|TooDeep| Unknown("nested too deeply".into()))?;
        match node {
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => {
                self.statement(node, scope)?;
                Ok(Recurse::No)
            }
            // Entered by `statement`, in the order that scopes need.
            Node::WithClause(_) => Ok(Recurse::No),
            Node::RangeVar(relation) => {
                self.relation(relation, scope, target)?;
                Ok(Recurse::No)
            }
            Node::RangeSubselect(subselect) => Ok(if (self.is_scan)(subselect) {
                Recurse::No
            } else {
                Recurse::Yes
            }),
            Node::RangeTableSample(sample) => {
                self.sample(sample)?;
                Ok(Recurse::Yes)
            }
            // Its relations are names of FROM items, not of relations.
            Node::LockingClause(_) => {
                self.found.locks = true;
                Ok(Recurse::No)
            }
            Node::IntoClause(_) => {
                self.found.into = true;
                Ok(Recurse::No)
            }
            Node::CurrentOfExpr(_) => {
                self.found.current_of = true;
                Ok(Recurse::No)
            }
            Node::ColumnRef(column) => {
                let parts = column.fields().iter().map(part).collect::<Result<_, _>>()?;
                self.found.columns.push(ColumnSite {
                    start: offset(column.location)?,
                    parts,
                });
                Ok(Recurse::No)
            }
            Node::A_Indirection(indirection) => {
                let fields = indirection.indirection().iter().filter_map(Node::as_str);
                self.found.fields.extend(fields.map(str::to_owned));
                Ok(Recurse::Yes)
            }
            // A flat list here is a tree as deep as it is long to sqlparser.
            Node::BoolExpr(terms) if terms.args().len() > TERMS => {
                Err(Unknown(format!("a condition of more than {TERMS} terms")))
            }
            Node::BoolExpr(_) => Ok(Recurse::Yes),
            Node::FuncCall(call) => {
                self.function(call)?;
                Ok(Recurse::Yes)
            }
            Node::A_Expr(expression) => {
                self.operator(expression.name());
                Ok(Recurse::Yes)
            }
            Node::SubLink(link) => {
                self.operator(link.oper_name());
                Ok(Recurse::Yes)
            }
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                Ok(Recurse::Yes)
            }
            Node::None
            | Node::NodeList(_)
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::A_ArrayExpr(_)
            | Node::A_Indices(_)
            | Node::Alias(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            | Node::BooleanTest(_)
            | Node::CaseExpr(_)
            | Node::CaseWhen(_)
            | Node::CoalesceExpr(_)
            | Node::CollateClause(_)
            | Node::ColumnDef(_)
            | Node::Float(_)
            | Node::GroupingFunc(_)
            | Node::GroupingSet(_)
            | Node::IndexElem(_)
            | Node::InferClause(_)
            | Node::Integer(_)
            | Node::JoinExpr(_)
            | Node::JsonAggConstructor(_)
            | Node::JsonArgument(_)
            | Node::JsonArrayAgg(_)
            | Node::JsonArrayConstructor(_)
            | Node::JsonArrayQueryConstructor(_)
            | Node::JsonBehavior(_)
            | Node::JsonFormat(_)
            | Node::JsonFuncExpr(_)
            | Node::JsonIsPredicate(_)
            | Node::JsonKeyValue(_)
            | Node::JsonObjectAgg(_)
            | Node::JsonObjectConstructor(_)
            | Node::JsonOutput(_)
            | Node::JsonParseExpr(_)
            | Node::JsonReturning(_)
            | Node::JsonScalarExpr(_)
            | Node::JsonSerializeExpr(_)
            | Node::JsonTable(_)
            | Node::JsonTableColumn(_)
            | Node::JsonTablePathSpec(_)
            | Node::JsonValueExpr(_)
            | Node::MergeSupportFunc(_)
            | Node::MergeWhenClause(_)
            | Node::MinMaxExpr(_)
            | Node::MultiAssignRef(_)
            | Node::NamedArgExpr(_)
            | Node::NullTest(_)
            | Node::OnConflictClause(_)
            | Node::ParamRef(_)
            | Node::RangeFunction(_)
            | Node::RangeTableFunc(_)
            | Node::RangeTableFuncCol(_)
            | Node::ResTarget(_)
            | Node::ReturningClause(_)
            | Node::ReturningOption(_)
            | Node::RowExpr(_)
            | Node::SQLValueFunction(_)
            | Node::SetToDefault(_)
            | Node::String(_)
            | Node::TypeCast(_)
            | Node::TypeName(_)
            | Node::WindowDef(_)
            | Node::XmlExpr(_)
            | Node::XmlSerialize(_) => Ok(Recurse::Yes),
            other => Err(unknown(other)),
        }
    }

    fn relation(
        &mut self,
        relation: &nodes::RangeVar,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        let role = match target {
            Some(location) if location == relation.location => Role::Target,
            _ => Role::Read,
        };
        let name = relation.relname().unwrap_or_default().to_owned();
        let qualified = relation.schemaname().is_some() || relation.catalogname().is_some();
        self.found.relations.push(RelationSite {
            start: offset(relation.location)?,
            catalog: relation.catalogname().map(str::to_owned),
            schema: relation.schemaname().map(str::to_owned),
            // A target is never a common table expression (setTargetTable).
            cte: role == Role::Read && !qualified && scope.has(&name),
            name,
            only: !relation.inh,
            role,
            aliased: relation.alias().is_some(),
        });
        Ok(())
    }

    fn function(&mut self, call: &nodes::FuncCall) -> Result<(), Unknown> {
        let parts = call
            .funcname()
            .iter()
            .map(part)
            .collect::<Result<Vec<_>, _>>()?;
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name.clone()),
            [schema, name] => (Some(schema.clone()), name.clone()),
            other => return Err(Unknown(format!("function name `{}`", other.join(".")))),
        };
        let literal = match call.args().first() {
            Some(Node::A_Const(value)) => match value.val() {
                Some(ConstValue::String(text)) => Some(text.to_owned()),
                _ => None,
            },
            _ => None,
        };
        self.found.functions.push(FunctionSite {
            start: offset(call.location)?,
            schema,
            name,
            literal,
        });
        Ok(())
    }

    fn sample(&mut self, sample: &nodes::RangeTableSample) -> Result<(), Unknown> {
        let Node::RangeVar(relation) = sample.relation() else {
            return Err(Unknown(
                "TABLESAMPLE of something other than a relation".into(),
            ));
        };
        let constant =
            |node: Node<'_>| matches!(node, Node::A_Const(_) | Node::ParamRef(_) | Node::None);
        self.found.samples.push(SampleSite {
            relation: offset(relation.location)?,
            method: offset(sample.location)?,
            plain: sample.args().iter().all(constant) && constant(sample.repeatable()),
        });
        Ok(())
    }

    fn operator(&mut self, name: &NodeList) {
        // Qualified or not, the last part is the operator's name.
        if let Some(name) = name.iter().filter_map(Node::as_str).next_back() {
            self.found.operators.insert(name.to_owned());
        }
    }
}

fn part(node: Node<'_>) -> Result<String, Unknown> {
    match node {
        Node::String(text) => Ok(text.sval().unwrap_or_default().to_owned()),
        Node::A_Star(_) => Ok("*".to_owned()),
        other => Err(unknown(other)),
    }
}

fn offset(location: i32) -> Result<usize, Unknown> {
    usize::try_from(location).map_err(|_| Unknown("a name without a place".into()))
}

/// The construct's name, for the message, from its node's: `CreateRoleStmt` is
/// `CREATE ROLE`.
pub(super) fn unknown(node: Node<'_>) -> Unknown {
    let debug = format!("{node:?}");
    let end = debug
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(debug.len());
    let node = debug.get(..end).unwrap_or("syntax");
    let mut name = String::new();
    for (at, c) in node.strip_suffix("Stmt").unwrap_or(node).char_indices() {
        if at > 0 && c.is_uppercase() {
            name.push(' ');
        }
        name.extend(c.to_uppercase());
    }
    Unknown(name)
}
