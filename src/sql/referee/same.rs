//! Whether two trees say the same, wherever each stands in its text.
//!
//! Knows nothing about policy. Invariant: a node or a field that this comparison
//! does not know makes two trees differ, so that nothing passes for what policy
//! wrote because a part of it was not looked at.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{ConstValue, Node, nodes};

use crate::sql::depth::Ground;

/// Who says of some pairs whether they are the same, otherwise than by their fields.
pub(super) trait Judge {
    /// A relation's name and what stands in its place; `None` if the fields decide.
    fn relation(&self, one: &nodes::RangeVar, other: Node<'_>) -> Option<bool>;
    /// Names of functions.
    fn function(&self, one: &NodeList, other: &NodeList) -> bool;
}

/// To the letter.
struct Letter;

impl Judge for Letter {
    fn relation(&self, _: &nodes::RangeVar, _: Node<'_>) -> Option<bool> {
        None
    }

    fn function(&self, one: &NodeList, other: &NodeList) -> bool {
        one.iter()
            .map(Node::as_str)
            .eq(other.iter().map(Node::as_str))
    }
}

/// Whether both say the same, to the letter.
pub(super) fn same(one: Node<'_>, other: Node<'_>) -> bool {
    same_but(one, other, &Letter)
}

/// Whether both say the same, but for the pairs that are judged.
pub(super) fn same_but(one: Node<'_>, other: Node<'_>, judge: &dyn Judge) -> bool {
    let comparison = Comparison {
        judge,
        ground: Ground::here(),
    };
    comparison.nodes(one, other)
}

struct Comparison<'j> {
    judge: &'j dyn Judge,
    ground: Ground,
}

fn maybe<'n, T>(node: Option<&'n T>) -> Node<'n>
where
    &'n T: Into<Node<'n>>,
{
    node.map_or(Node::None, Into::into)
}

impl Comparison<'_> {
    fn nodes(&self, one: Node<'_>, other: Node<'_>) -> bool {
        if self.ground.check().is_err() {
            return false;
        }
        let judged = match one {
            Node::RangeVar(name) => self.judge.relation(name, other),
            _ => None,
        };
        judged.unwrap_or_else(|| self.fields(one, other))
    }

    fn lists(&self, one: &NodeList, other: &NodeList) -> bool {
        self.all(one, other)
    }

    fn all<'n, L>(&self, one: L, other: L) -> bool
    where
        L: IntoIterator<Item: Into<Node<'n>>>,
    {
        let (mut one, mut other) = (one.into_iter(), other.into_iter());
        loop {
            match (one.next(), other.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) => {
                    if !self.nodes(one.into(), other.into()) {
                        return false;
                    }
                }
                (None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }

    /// Every field but the place, by the declarations in Postgres's parsenodes.h
    /// and primnodes.h; those that analysis fills are empty in a raw tree.
    fn fields(&self, one: Node<'_>, other: Node<'_>) -> bool {
        match (one, other) {
            (Node::None, Node::None) | (Node::A_Star(_), Node::A_Star(_)) => true,
            (Node::NodeList(a), Node::NodeList(b)) => self.lists(a, b),
            (Node::String(a), Node::String(b)) => a.sval() == b.sval(),
            (Node::Integer(a), Node::Integer(b)) => a.ival == b.ival,
            (Node::A_Const(a), Node::A_Const(b)) => {
                a.isnull == b.isnull && constants(a.val(), b.val())
            }
            (Node::ParamRef(a), Node::ParamRef(b)) => a.number == b.number,
            (Node::ColumnRef(a), Node::ColumnRef(b)) => self.lists(a.fields(), b.fields()),
            (Node::A_Expr(a), Node::A_Expr(b)) => {
                a.kind == b.kind
                    && self.lists(a.name(), b.name())
                    && self.nodes(a.lexpr(), b.lexpr())
                    && self.nodes(a.rexpr(), b.rexpr())
            }
            (Node::BoolExpr(a), Node::BoolExpr(b)) => {
                a.boolop == b.boolop && self.lists(a.args(), b.args())
            }
            (Node::NullTest(a), Node::NullTest(b)) => {
                a.nulltesttype == b.nulltesttype && self.nodes(a.arg(), b.arg())
            }
            (Node::BooleanTest(a), Node::BooleanTest(b)) => {
                a.booltesttype == b.booltesttype && self.nodes(a.arg(), b.arg())
            }
            (Node::TypeCast(a), Node::TypeCast(b)) => {
                self.nodes(a.arg(), b.arg())
                    && self.nodes(maybe(a.type_name()), maybe(b.type_name()))
            }
            (Node::TypeName(a), Node::TypeName(b)) => {
                a.setof == b.setof
                    && a.pct_type == b.pct_type
                    && a.typemod == b.typemod
                    && self.all(a.names(), b.names())
                    && self.lists(a.typmods(), b.typmods())
                    && self.lists(a.array_bounds(), b.array_bounds())
            }
            (Node::CollateClause(a), Node::CollateClause(b)) => {
                self.nodes(a.arg(), b.arg()) && self.lists(a.collname(), b.collname())
            }
            (Node::FuncCall(a), Node::FuncCall(b)) => {
                self.judge.function(a.funcname(), b.funcname()) && self.call(a, b)
            }
            (Node::NamedArgExpr(a), Node::NamedArgExpr(b)) => {
                a.name() == b.name() && self.nodes(a.arg(), b.arg())
            }
            (Node::CaseExpr(a), Node::CaseExpr(b)) => {
                self.nodes(a.arg(), b.arg())
                    && self.lists(a.args(), b.args())
                    && self.nodes(a.defresult(), b.defresult())
            }
            (Node::CaseWhen(a), Node::CaseWhen(b)) => {
                self.nodes(a.expr(), b.expr()) && self.nodes(a.result(), b.result())
            }
            (Node::CoalesceExpr(a), Node::CoalesceExpr(b)) => self.lists(a.args(), b.args()),
            (Node::MinMaxExpr(a), Node::MinMaxExpr(b)) => {
                a.op == b.op && self.lists(a.args(), b.args())
            }
            (Node::SQLValueFunction(a), Node::SQLValueFunction(b)) => {
                a.op == b.op && a.typmod == b.typmod
            }
            (Node::RowExpr(a), Node::RowExpr(b)) => {
                a.row_format == b.row_format
                    && self.lists(a.args(), b.args())
                    && self.all(a.colnames(), b.colnames())
            }
            (Node::A_ArrayExpr(a), Node::A_ArrayExpr(b)) => self.lists(a.elements(), b.elements()),
            (Node::A_Indices(a), Node::A_Indices(b)) => {
                a.is_slice == b.is_slice
                    && self.nodes(a.lidx(), b.lidx())
                    && self.nodes(a.uidx(), b.uidx())
            }
            (Node::A_Indirection(a), Node::A_Indirection(b)) => {
                self.nodes(a.arg(), b.arg()) && self.lists(a.indirection(), b.indirection())
            }
            (Node::SubLink(a), Node::SubLink(b)) => {
                a.sub_link_type == b.sub_link_type
                    && self.nodes(a.testexpr(), b.testexpr())
                    && self.lists(a.oper_name(), b.oper_name())
                    && self.nodes(a.subselect(), b.subselect())
            }
            _ => self.clauses(one, other),
        }
    }

    /// What makes up a SELECT around its expressions.
    fn clauses(&self, one: Node<'_>, other: Node<'_>) -> bool {
        match (one, other) {
            (Node::SelectStmt(a), Node::SelectStmt(b)) => self.select(a, b),
            (Node::ResTarget(a), Node::ResTarget(b)) => {
                a.name() == b.name()
                    && self.lists(a.indirection(), b.indirection())
                    && self.nodes(a.val(), b.val())
            }
            (Node::Alias(a), Node::Alias(b)) => {
                a.aliasname() == b.aliasname() && self.lists(a.colnames(), b.colnames())
            }
            (Node::RangeVar(a), Node::RangeVar(b)) => {
                a.catalogname() == b.catalogname()
                    && a.schemaname() == b.schemaname()
                    && a.relname() == b.relname()
                    && a.inh == b.inh
                    && a.relpersistence == b.relpersistence
                    && self.nodes(maybe(a.alias()), maybe(b.alias()))
            }
            (Node::RangeSubselect(a), Node::RangeSubselect(b)) => {
                a.lateral == b.lateral
                    && self.nodes(a.subquery(), b.subquery())
                    && self.nodes(maybe(a.alias()), maybe(b.alias()))
            }
            (Node::RangeFunction(a), Node::RangeFunction(b)) => {
                a.lateral == b.lateral
                    && a.ordinality == b.ordinality
                    && a.is_rowsfrom == b.is_rowsfrom
                    && self.lists(a.functions(), b.functions())
                    && self.nodes(maybe(a.alias()), maybe(b.alias()))
                    && a.coldeflist().is_empty()
                    && b.coldeflist().is_empty()
            }
            (Node::JoinExpr(a), Node::JoinExpr(b)) => {
                a.jointype == b.jointype
                    && a.is_natural == b.is_natural
                    && self.nodes(a.larg(), b.larg())
                    && self.nodes(a.rarg(), b.rarg())
                    && self.all(a.using_clause(), b.using_clause())
                    && self.nodes(maybe(a.join_using_alias()), maybe(b.join_using_alias()))
                    && self.nodes(a.quals(), b.quals())
                    && self.nodes(maybe(a.alias()), maybe(b.alias()))
            }
            (Node::SortBy(a), Node::SortBy(b)) => {
                a.sortby_dir == b.sortby_dir
                    && a.sortby_nulls == b.sortby_nulls
                    && self.nodes(a.node(), b.node())
                    && self.lists(a.use_op(), b.use_op())
            }
            (Node::WindowDef(a), Node::WindowDef(b)) => {
                a.name() == b.name()
                    && a.refname() == b.refname()
                    && a.frame_options == b.frame_options
                    && self.lists(a.partition_clause(), b.partition_clause())
                    && self.all(a.order_clause(), b.order_clause())
                    && self.nodes(a.start_offset(), b.start_offset())
                    && self.nodes(a.end_offset(), b.end_offset())
            }
            (Node::GroupingSet(a), Node::GroupingSet(b)) => {
                a.kind == b.kind && self.lists(a.content(), b.content())
            }
            (Node::GroupingFunc(a), Node::GroupingFunc(b)) => self.lists(a.args(), b.args()),
            (Node::WithClause(a), Node::WithClause(b)) => {
                a.recursive == b.recursive && self.all(a.ctes(), b.ctes())
            }
            (Node::CommonTableExpr(a), Node::CommonTableExpr(b)) => {
                a.ctename() == b.ctename()
                    && a.ctematerialized == b.ctematerialized
                    && self.lists(a.aliascolnames(), b.aliascolnames())
                    && self.nodes(a.ctequery(), b.ctequery())
                    && [a, b]
                        .iter()
                        .all(|cte| cte.search_clause().is_none() && cte.cycle_clause().is_none())
            }
            _ => false,
        }
    }

    /// Two calls, but for the functions' names.
    fn call(&self, a: &nodes::FuncCall, b: &nodes::FuncCall) -> bool {
        a.agg_within_group == b.agg_within_group
            && a.agg_star == b.agg_star
            && a.agg_distinct == b.agg_distinct
            && a.func_variadic == b.func_variadic
            && self.lists(a.args(), b.args())
            && self.all(a.agg_order(), b.agg_order())
            && self.nodes(a.agg_filter(), b.agg_filter())
            && self.nodes(maybe(a.over()), maybe(b.over()))
    }

    fn select(&self, a: &nodes::SelectStmt, b: &nodes::SelectStmt) -> bool {
        a.op == b.op
            && a.all == b.all
            && a.group_distinct == b.group_distinct
            && a.limit_option == b.limit_option
            && self.lists(a.distinct_clause(), b.distinct_clause())
            && a.into_clause().is_none()
            && b.into_clause().is_none()
            && self.all(a.target_list(), b.target_list())
            && self.lists(a.from_clause(), b.from_clause())
            && self.nodes(a.where_clause(), b.where_clause())
            && self.lists(a.group_clause(), b.group_clause())
            && self.nodes(a.having_clause(), b.having_clause())
            && self.lists(a.window_clause(), b.window_clause())
            && self.lists(a.values_lists(), b.values_lists())
            && self.all(a.sort_clause(), b.sort_clause())
            && self.nodes(a.limit_offset(), b.limit_offset())
            && self.nodes(a.limit_count(), b.limit_count())
            && a.locking_clause().is_empty()
            && b.locking_clause().is_empty()
            && self.nodes(maybe(a.with_clause()), maybe(b.with_clause()))
            && self.nodes(maybe(a.larg()), maybe(b.larg()))
            && self.nodes(maybe(a.rarg()), maybe(b.rarg()))
    }
}

fn constants(one: Option<ConstValue<'_>>, other: Option<ConstValue<'_>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => match (one, other) {
            (ConstValue::Integer(a), ConstValue::Integer(b)) => a == b,
            (ConstValue::Boolean(a), ConstValue::Boolean(b)) => a == b,
            (ConstValue::Float(a), ConstValue::Float(b))
            | (ConstValue::String(a), ConstValue::String(b))
            | (ConstValue::BitString(a), ConstValue::BitString(b)) => a == b,
            _ => false,
        },
        _ => false,
    }
}
