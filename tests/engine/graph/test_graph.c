/* graph: edits keep the invariants, the checker finds each broken one, order, clones, text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "graph/graph.h"

/* x ─▶ MatMul(w) ─ h ─▶ Relu ─ r ─▶ Add(r, h) ─ y */
struct fixture {
    struct shr_model *model;
    struct shr_graph *g;
    struct shr_value *x, *w, *h, *r, *y;
    struct shr_node *matmul, *relu, *add;
};

static struct shr_value *value(struct shr_graph *g, const char *name)
{
    struct shr_value *v;
    assert_int_equal(shr_graph_add_value(g, name, &v, NULL), SHR_OK);
    return v;
}

static struct shr_tensor floats(int64_t n)
{
    struct shr_tensor t;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_F32, 1, &n, &t, NULL), SHR_OK);
    return t;
}

static struct shr_node *node(struct shr_graph *g, const char *op, const char *name,
                             struct shr_value *a, struct shr_value *b, struct shr_value *out)
{
    struct shr_node *n;
    assert_int_equal(shr_graph_add_node(g, NULL, "", op, name, (struct shr_value *[]){a, b},
                                        b == NULL ? 1 : 2, &out, 1, &n, NULL),
                     SHR_OK);
    return n;
}

static int set_up(void **state)
{
    static struct fixture f;
    f.model = shr_model_new();
    f.g = &f.model->graph;
    f.x = value(f.g, "x");
    f.h = value(f.g, "h");
    f.r = value(f.g, "r");
    f.y = value(f.g, "y");
    assert_int_equal(shr_graph_add_constant(f.g, "w", floats(4), &f.w, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_input(f.g, f.x, NULL), SHR_OK);
    f.matmul = node(f.g, "MatMul", "mm", f.x, f.w, f.h);
    f.relu = node(f.g, "Relu", "", f.h, NULL, f.r);
    f.add = node(f.g, "Add", "sum", f.r, f.h, f.y);
    assert_int_equal(shr_graph_add_output(f.g, f.y, NULL), SHR_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    shr_model_free(f->model);
    return 0;
}

static void assert_sound(const struct shr_graph *g)
{
    struct shr_err err = {0};
    if (shr_graph_check(g, &err) != SHR_OK) {
        fail_msg("%s", err.msg);
    }
}

static void assert_broken(const struct shr_graph *g, const char *message)
{
    struct shr_err err = {0};
    assert_int_equal(shr_graph_check(g, &err), SHR_ERR_INTERNAL);
    assert_string_equal(err.msg, message);
}

/* ── Edits ──────────────────────────────────────────────────────────────────────────────────── */

static void uses_are_known_at_both_ends(void **state)
{
    struct fixture *f = *state;
    assert_sound(f->g);
    assert_int_equal(f->h->n_uses, 2);
    assert_ptr_equal(f->h->uses->node, f->relu);
    assert_ptr_equal(f->h->last_use->node, f->add);
    assert_int_equal(f->h->last_use->slot, 1);
    assert_ptr_equal(shr_value_single_use(f->r), f->add);
    assert_null(shr_value_single_use(f->h));
    assert_null(shr_value_single_use(f->y));
    assert_ptr_equal(shr_node_in(f->add, 0), f->r);
    assert_null(shr_node_in(f->add, 2));
    assert_null(shr_node_out(f->add, 1));
    assert_true(shr_node_is(f->relu, "Relu"));
    assert_false(shr_node_is(NULL, "Relu"));
}

static void taken_and_empty_names_are_refused(void **state)
{
    struct fixture *f = *state;
    struct shr_err err = {0};
    struct shr_value *v = NULL;
    assert_int_equal(shr_graph_add_value(f->g, "h", &v, &err), SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "the name 'h' is taken");
    assert_int_equal(shr_graph_add_value(f->g, "", &v, &err), SHR_ERR_INVALID);
    assert_null(v);
    assert_int_equal(shr_graph_fresh_value(f->g, "h", &v, &err), SHR_OK);
    assert_string_equal(v->name, "h_1");
    assert_int_equal(shr_graph_fresh_value(f->g, "h", &v, &err), SHR_OK);
    assert_string_equal(v->name, "h_2");
    assert_int_equal(shr_graph_fresh_value(f->g, "", &v, &err), SHR_OK);
    assert_string_equal(v->name, "_1");
    assert_sound(f->g);
}

static void an_output_has_one_producer(void **state)
{
    struct fixture *f = *state;
    struct shr_err err = {0};
    struct shr_value *fresh = value(f->g, "fresh");
    struct shr_value *twice[] = {fresh, fresh};
    assert_int_equal(shr_graph_add_node(f->g, NULL, "", "Relu", "", &f->x, 1, &f->h, 1, NULL, &err),
                     SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'h' cannot become a node's output: it is one already");
    assert_int_equal(shr_graph_add_node(f->g, NULL, "", "Relu", "", &f->h, 1, &f->x, 1, NULL, &err),
                     SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'x' cannot become a node's output: it is a graph input");
    assert_int_equal(shr_graph_add_node(f->g, NULL, "", "Relu", "", &f->h, 1, &f->w, 1, NULL, &err),
                     SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'w' cannot become a node's output: it is an initializer");
    assert_int_equal(
        shr_graph_add_node(f->g, NULL, "", "Split", "", &f->h, 1, twice, 2, NULL, &err),
        SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'fresh' is an output twice");
    assert_int_equal(shr_graph_add_input(f->g, f->y, &err), SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'y' cannot become a graph input: it is computed by a node");
    assert_int_equal(shr_graph_add_output(f->g, f->y, &err), SHR_ERR_CONFLICT);
    assert_string_equal(err.msg, "'y' is a graph output already");
    assert_int_equal(f->g->n_nodes, 3);
    assert_sound(f->g);
}

static void set_input_moves_the_edge(void **state)
{
    struct fixture *f = *state;
    shr_node_set_input(f->add, 1, f->r);
    assert_int_equal(f->h->n_uses, 1);
    assert_int_equal(f->r->n_uses, 2);
    assert_sound(f->g);
    shr_node_set_input(f->add, 1, NULL);
    assert_null(shr_node_in(f->add, 1));
    assert_int_equal(f->r->n_uses, 1);
    assert_sound(f->g);
}

static void resize_inputs_keeps_what_fits(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(shr_node_resize_inputs(f->g, f->add, 4, NULL), SHR_OK);
    assert_ptr_equal(shr_node_in(f->add, 1), f->h);
    assert_null(shr_node_in(f->add, 3));
    assert_sound(f->g);
    assert_int_equal(shr_node_resize_inputs(f->g, f->add, 1, NULL), SHR_OK);
    assert_ptr_equal(shr_node_in(f->add, 0), f->r);
    assert_int_equal(f->h->n_uses, 1);
    assert_sound(f->g);
}

static void node_can_be_put_before_another(void **state)
{
    struct fixture *f = *state;
    struct shr_value *s = value(f->g, "s");
    struct shr_node *sigmoid;
    assert_int_equal(
        shr_graph_add_node(f->g, f->add, "", "Sigmoid", "", &f->r, 1, &s, 1, &sigmoid, NULL),
        SHR_OK);
    assert_ptr_equal(f->relu->next, sigmoid);
    assert_ptr_equal(f->add->prev, sigmoid);
    shr_node_set_input(f->add, 0, s);
    assert_sound(f->g);
    shr_graph_number(f->g);
    assert_int_equal(f->add->index, 3);
}

static void removed_node_leaves_its_outputs(void **state)
{
    struct fixture *f = *state;
    shr_node_set_input(f->add, 0, f->h);
    shr_graph_remove_node(f->g, f->relu);
    assert_ptr_equal(shr_graph_find(f->g, "r"), f->r);
    assert_int_equal(f->h->n_uses, 2);
    assert_sound(f->g);
    shr_graph_remove_value(f->g, f->r);
    assert_null(shr_graph_find(f->g, "r"));
    assert_sound(f->g);
}

static void replace_uses_moves_consumers(void **state)
{
    struct fixture *f = *state;
    shr_value_replace_uses(f->r, f->h);
    assert_int_equal(f->r->n_uses, 0);
    assert_int_equal(f->h->n_uses, 3);
    assert_sound(f->g);
}

static void replace_uses_hands_on_the_name_of_an_output(void **state)
{
    struct fixture *f = *state;
    shr_value_replace_uses(f->y, f->r);
    assert_string_equal(f->r->name, "y");
    assert_ptr_equal(shr_graph_find(f->g, "y"), f->r);
    assert_ptr_equal(f->g->outputs[0], f->r);
    assert_true(f->r->is_output);
    assert_false(f->y->is_output);
    assert_string_equal(f->y->name, "r");
    assert_sound(f->g);
    assert_int_equal(shr_graph_drop_unused(f->g), 1);
    assert_null(shr_graph_find(f->g, "r"));
    assert_sound(f->g);
}

static void replace_uses_leaves_an_output_that_an_input_cannot_be(void **state)
{
    struct fixture *f = *state;
    shr_value_replace_uses(f->y, f->x);
    assert_true(f->y->is_output);
    assert_string_equal(f->x->name, "x");
    f->r->captured = true;
    shr_value_replace_uses(f->y, f->r);
    assert_true(f->y->is_output);
    assert_sound(f->g);
}

static void set_constant_changes_data_and_type(void **state)
{
    struct fixture *f = *state;
    shr_value_set_constant(f->w, floats(9));
    assert_int_equal(f->w->type.dim[0], 9);
    assert_int_equal(f->w->type.rank, 1);
    assert_sound(f->g);
}

static void set_constant_reaches_the_constant_node(void **state)
{
    struct fixture *f = *state;
    struct shr_value *c = value(f->g, "c");
    struct shr_node *n;
    assert_int_equal(
        shr_graph_add_node(f->g, f->g->first_node, "", "Constant", "", NULL, 0, &c, 1, &n, NULL),
        SHR_OK);
    assert_int_equal(shr_node_set_float(f->g, n, "value_float", 2, NULL), SHR_OK);
    struct shr_tensor t = floats(2);
    shr_value_set_constant(c, t);
    const struct shr_attr *attr = shr_node_attr(n, "value");
    assert_non_null(attr);
    assert_int_equal(attr->kind, SHR_ATTR_TENSOR);
    assert_ptr_equal(attr->tensor.data, t.data);
    assert_null(shr_node_attr(n, "value_float"));
    shr_node_set_input(f->add, 1, c);
    assert_sound(f->g);
    shr_graph_remove_node(f->g, n);
    assert_true(shr_value_is_constant(c));
    assert_sound(f->g);
}

static void attributes_are_read_with_a_fallback(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(shr_node_int(f->add, "axis", -1), -1);
    assert_int_equal(shr_node_set_int(f->g, f->add, "axis", 2, NULL), SHR_OK);
    assert_int_equal(shr_node_int(f->add, "axis", -1), 2);
    assert_true(shr_node_float(f->add, "axis", 0.5f) == 0.5f);
    assert_int_equal(shr_node_set_float(f->g, f->add, "axis", 1.5f, NULL), SHR_OK);
    assert_true(shr_node_float(f->add, "axis", 0) == 1.5f);
    assert_null(f->add->attrs->next);
    const int64_t pads[] = {1, 2};
    assert_int_equal(shr_node_set_ints(f->g, f->add, "pads", pads, 2, NULL), SHR_OK);
    size_t n;
    assert_memory_equal(shr_node_ints(f->add, "pads", &n), pads, sizeof pads);
    assert_int_equal(n, 2);
    assert_null(shr_node_ints(f->add, "axis", &n));
    assert_int_equal(n, 0);
    assert_int_equal(shr_node_set_text(f->g, f->add, "mode", "SAME", NULL), SHR_OK);
    assert_string_equal(shr_node_text(f->add, "mode", ""), "SAME");
    assert_string_equal(shr_node_text(f->add, "auto_pad", "NOTSET"), "NOTSET");
    assert_int_equal(shr_node_set_tensor(f->g, f->add, "mode", floats(1), NULL), SHR_OK);
    assert_string_equal(shr_node_text(f->add, "mode", "none"), "none");
    assert_int_equal(shr_node_set_tensor(f->g, f->add, "mode", floats(2), NULL), SHR_OK);
}

static void label_of_a_nameless_node_is_its_operator_and_output(void **state)
{
    struct fixture *f = *state;
    char text[32];
    assert_string_equal(shr_node_label(f->matmul, text, sizeof text), "mm");
    assert_string_equal(shr_node_label(f->relu, text, sizeof text), "Relu(r)");
}

/* ── Order ──────────────────────────────────────────────────────────────────────────────────── */

static void sort_moves_nodes_behind_what_they_need(void **state)
{
    struct fixture *f = *state;
    /* Put a node at the end whose output the first one needs. */
    struct shr_value *s = value(f->g, "s");
    struct shr_node *last = node(f->g, "Neg", "neg", f->x, NULL, s);
    shr_node_set_input(f->matmul, 0, s);
    assert_broken(f->g, "node 'mm' stands before a node whose output it needs");
    assert_int_equal(shr_graph_sort(f->g, NULL), SHR_OK);
    assert_ptr_equal(f->g->first_node, last);
    assert_ptr_equal(last->next, f->matmul);
    assert_ptr_equal(f->g->last_node, f->add);
    assert_int_equal(f->add->index, 3);
    assert_sound(f->g);
}

static void sort_counts_captures_as_needs(void **state)
{
    struct fixture *f = *state;
    struct shr_value *s = value(f->g, "s");
    struct shr_node *last = node(f->g, "Neg", "neg", f->x, NULL, s);
    f->matmul->captures = &s;
    f->matmul->n_captures = 1;
    assert_broken(f->g, "node 'mm' captures a value that is not marked or not there");
    s->captured = true;
    assert_broken(f->g, "node 'mm' stands before a node whose output it needs");
    assert_int_equal(shr_graph_sort(f->g, NULL), SHR_OK);
    assert_ptr_equal(f->g->first_node, last);
    assert_sound(f->g);
}

static void sort_names_a_node_of_a_cycle(void **state)
{
    struct fixture *f = *state;
    struct shr_err err = {0};
    shr_node_set_input(f->matmul, 0, f->y);
    assert_int_equal(shr_graph_sort(f->g, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "the graph has a cycle: node 'mm' needs 'y', which needs the "
                                 "node's output");
    shr_node_set_input(f->matmul, 0, f->x);
    shr_node_set_input(f->relu, 0, f->r);
    assert_int_equal(shr_graph_sort(f->g, &err), SHR_ERR_INVALID);
    assert_string_equal(err.msg, "the graph has a cycle: node 'Relu(r)' needs 'r', which needs the "
                                 "node's output");
    assert_int_equal(f->g->n_nodes, 3);
}

static void sort_does_not_recurse_on_a_long_chain(void **state)
{
    struct fixture *f = *state;
    struct shr_value *prev = f->y, *v;
    struct shr_node *before = f->g->first_node;
    /* Each node is put in front of the one that it feeds on: exactly the wrong order. */
    for (int i = 0; i < 50000; i++) {
        assert_int_equal(shr_graph_fresh_value(f->g, "", &v, NULL), SHR_OK);
        assert_int_equal(
            shr_graph_add_node(f->g, before, "", "Neg", "", &prev, 1, &v, 1, &before, NULL),
            SHR_OK);
        prev = v;
    }
    assert_string_equal(v->name, "_50000");
    assert_int_equal(shr_graph_sort(f->g, NULL), SHR_OK);
    assert_sound(f->g);
}

static void drop_unused_keeps_what_outputs_and_captures_need(void **state)
{
    struct fixture *f = *state;
    struct shr_value *d1 = value(f->g, "d1"), *d2 = value(f->g, "d2"), *c = value(f->g, "c");
    struct shr_value *spare;
    node(f->g, "Neg", "", f->h, NULL, d1);
    node(f->g, "Neg", "", d1, NULL, d2);
    node(f->g, "Neg", "kept", f->x, NULL, c);
    assert_int_equal(shr_graph_add_constant(f->g, "spare", floats(1), &spare, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_input(f->g, spare, NULL), SHR_OK);
    struct shr_value *unused_input = value(f->g, "unused");
    assert_int_equal(shr_graph_add_input(f->g, unused_input, NULL), SHR_OK);
    c->captured = true;
    f->g->captures = &c;
    f->g->n_captures = 1;
    assert_int_equal(shr_graph_drop_unused(f->g), 2);
    assert_null(shr_graph_find(f->g, "d1"));
    assert_null(shr_graph_find(f->g, "d2"));
    assert_null(shr_graph_find(f->g, "spare"));
    assert_ptr_equal(shr_graph_find(f->g, "unused"), unused_input);
    assert_ptr_equal(shr_graph_find(f->g, "c"), c);
    assert_int_equal(f->g->n_inputs, 2);
    assert_sound(f->g);
    f->g->n_captures = 0;
    assert_int_equal(shr_graph_drop_unused(f->g), 1);
    assert_null(shr_graph_find(f->g, "c"));
    assert_int_equal(shr_graph_drop_unused(f->g), 0);
    assert_sound(f->g);
}

/* ── The checker finds each broken invariant ────────────────────────────────────────────────── */

static void check_finds_broken_links(void **state)
{
    struct fixture *f = *state;
    f->h->n_uses = 1;
    assert_broken(f->g, "value 'h' has a broken list of uses");
    f->h->n_uses = 3;
    assert_broken(f->g, "value 'h' counts its uses wrong");
    f->h->n_uses = 2;

    f->relu->in[0].slot = 1;
    assert_broken(f->g, "value 'h' has a broken list of uses");
    f->relu->in[0].slot = 0;

    f->g->n_values--;
    assert_broken(f->g, "value 'w' is linked wrong");
    f->g->n_values += 2;
    assert_broken(f->g, "the graph counts its values wrong");
    f->g->n_values--;

    f->g->n_nodes--;
    assert_broken(f->g, "node 'sum' is linked wrong");
    f->g->n_nodes += 2;
    assert_broken(f->g, "the graph counts its nodes wrong");
    f->g->n_nodes--;

    f->h->producer = f->relu;
    assert_broken(f->g, "node 'mm' is not the producer that its output names");
    f->h->producer = f->matmul;
    f->h->producer_slot = 1;
    assert_broken(f->g, "node 'mm' is not the producer that its output names");
    f->h->producer_slot = 0;
    assert_sound(f->g);
}

static void check_finds_broken_names(void **state)
{
    struct fixture *f = *state;
    f->h->name = "r";
    assert_broken(f->g, "value 'r' is not the one that its name finds");
    f->h->name = "";
    assert_broken(f->g, "a value has no name");
    f->h->name = "h";
    assert_sound(f->g);
}

static void check_finds_values_without_a_source(void **state)
{
    struct fixture *f = *state;
    struct shr_value *loose = value(f->g, "loose");
    assert_sound(f->g);
    shr_node_set_input(f->relu, 0, loose);
    assert_broken(f->g, "value 'loose' is read but nothing computes it");
    shr_node_set_input(f->relu, 0, f->h);
    assert_int_equal(shr_graph_add_output(f->g, loose, NULL), SHR_OK);
    assert_broken(f->g, "value 'loose' is read but nothing computes it");
}

static void check_finds_a_wrong_interface(void **state)
{
    struct fixture *f = *state;
    f->h->is_output = true;
    assert_broken(f->g, "1 values are inputs and 2 outputs, the graph lists 1 and 1");
    f->y->is_output = false;
    assert_broken(f->g, "value 'y' is listed as output but is none");
    f->h->is_output = false;
    f->y->is_output = true;
    f->y->is_input = true;
    assert_broken(f->g, "value 'y' is both an input and computed");
    f->y->is_input = false;
    f->w->is_input = true;
    f->x->is_input = false;
    assert_broken(f->g, "value 'x' is read but nothing computes it");
}

static void check_finds_a_constant_of_another_type(void **state)
{
    struct fixture *f = *state;
    f->w->type.dim[0] = 5;
    assert_broken(f->g, "value 'w' has another type than its data");
    f->w->type.dim[0] = 4;
    f->w->type.dtype = SHR_DTYPE_I8;
    assert_broken(f->g, "value 'w' has another type than its data");
}

/* ── Models ─────────────────────────────────────────────────────────────────────────────────── */

static void clone_shares_weights_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(shr_model_import(f->model, "", 13, NULL), SHR_OK);
    assert_int_equal(shr_model_set_metadata(f->model, "k", "v", NULL), SHR_OK);
    assert_int_equal(shr_node_set_int(f->g, f->add, "axis", 3, NULL), SHR_OK);
    assert_int_equal(shr_node_set_text(f->g, f->add, "mode", "m", NULL), SHR_OK);
    f->x->type = (struct shr_type){SHR_DTYPE_F32, 2, {-1, 4}, {"N"}};
    struct shr_model *copy;
    assert_int_equal(shr_model_clone(f->model, &copy, NULL), SHR_OK);
    assert_sound(&copy->graph);
    struct shr_buf a = {0}, b = {0};
    assert_int_equal(shr_model_print(f->model, &a, NULL), SHR_OK);
    assert_int_equal(shr_model_print(copy, &b, NULL), SHR_OK);
    assert_string_equal(shr_buf_str(&a), shr_buf_str(&b));

    struct shr_value *w = shr_graph_find(&copy->graph, "w");
    assert_ptr_not_equal(w, f->w);
    assert_ptr_equal(w->constant.data, f->w->constant.data);
    assert_string_equal(copy->metadata->value, "v");
    assert_int_equal(shr_model_opset(copy, ""), 13);

    /* The copy lives on alone. */
    shr_model_free(f->model);
    f->model = copy;
    shr_tensor_set(&w->constant, 0, 1);
    shr_buf_finish(&b);
    assert_int_equal(shr_model_print(copy, &b, NULL), SHR_OK);
    assert_string_equal(shr_buf_str(&a), shr_buf_str(&b));
    shr_buf_finish(&a);
    shr_buf_finish(&b);
}

static void import_adds_or_raises(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(shr_model_opset(f->model, ""), 0);
    assert_int_equal(shr_model_import(f->model, "", 13, NULL), SHR_OK);
    assert_int_equal(shr_model_import(f->model, "", 11, NULL), SHR_OK);
    assert_int_equal(shr_model_opset(f->model, ""), 13);
    assert_int_equal(shr_model_import(f->model, "com.microsoft", 1, NULL), SHR_OK);
    assert_int_equal(shr_model_import(f->model, "", 14, NULL), SHR_OK);
    assert_int_equal(shr_model_opset(f->model, ""), 14);
    assert_int_equal(shr_model_opset(f->model, "com.microsoft"), 1);
}

static void metadata_is_replaced_in_place(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(shr_model_set_metadata(f->model, "a", "1", NULL), SHR_OK);
    assert_int_equal(shr_model_set_metadata(f->model, "b", "2", NULL), SHR_OK);
    assert_int_equal(shr_model_set_metadata(f->model, "a", "3", NULL), SHR_OK);
    assert_string_equal(f->model->metadata->key, "a");
    assert_string_equal(f->model->metadata->value, "3");
    assert_null(f->model->metadata->next->next);
}

static void print_shows_one_node_a_line(void **state)
{
    struct fixture *f = *state;
    f->x->type = (struct shr_type){SHR_DTYPE_F32, 3, {-1, 4, -1}, {"N"}};
    f->h->type = (struct shr_type){SHR_DTYPE_F32, -1, {0}, {0}};
    assert_int_equal(shr_model_import(f->model, "", 13, NULL), SHR_OK);
    assert_int_equal(shr_node_set_int(f->g, f->relu, "n", 7, NULL), SHR_OK);
    assert_int_equal(
        shr_node_set_ints(f->g, f->relu, "pads", (int64_t[]){1, 2, 3, 4, 5, 6, 7, 8, 9}, 9, NULL),
        SHR_OK);
    struct shr_buf text = {0};
    assert_int_equal(shr_model_print(f->model, &text, NULL), SHR_OK);
    assert_string_equal(shr_buf_str(&text),
                        "graph \"\" (IR 8, ai.onnx 13)\n"
                        "  input x: float32 [N, 4, ?]\n"
                        "  weight w: float32 [4]\n"
                        "  h: float32 […] = MatMul(x, w)  # mm\n"
                        "  r = Relu(h) {n=7, pads=[1, 2, 3, 4, 5, 6, 7, 8, …]}\n"
                        "  y = Add(r, h)  # sum\n"
                        "  output y: unknown […]\n");
    shr_buf_finish(&text);
}

static void describe_counts_operators_and_parameters(void **state)
{
    struct fixture *f = *state;
    struct shr_value *q, *scale, *shape, *d = value(f->g, "d");
    struct shr_tensor bytes;
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I8, 1, (int64_t[]){10}, &bytes, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_constant(f->g, "q", bytes, &q, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_constant(f->g, "scale", floats(10), &scale, NULL), SHR_OK);
    assert_int_equal(shr_tensor_new(SHR_DTYPE_I64, 1, (int64_t[]){2}, &bytes, NULL), SHR_OK);
    assert_int_equal(shr_graph_add_constant(f->g, "shape", bytes, &shape, NULL), SHR_OK);
    node(f->g, "DequantizeLinear", "", q, scale, d);
    node(f->g, "Reshape", "", d, shape, value(f->g, "e"));
    struct shr_node *custom = node(f->g, "Relu", "", d, NULL, value(f->g, "z"));
    custom->domain = "my.domain";

    struct shr_model_info info;
    assert_int_equal(shr_model_describe(f->model, &info, NULL), SHR_OK);
    assert_int_equal(info.parameters, 4 + 10);
    assert_int_equal(info.n_initializers, 4);
    assert_int_equal(info.n_nodes, 6);
    assert_int_equal(info.n_inputs, 1);
    assert_string_equal(info.inputs[0].name, "x");
    assert_int_equal(info.n_outputs, 1);
    const char *const names[] = {"Add",  "DequantizeLinear", "MatMul",
                                 "Relu", "Reshape",          "my.domain.Relu"};
    assert_int_equal(info.n_ops, SHR_COUNT_OF(names));
    for (size_t i = 0; i < info.n_ops; i++) {
        assert_string_equal(info.ops[i].name, names[i]);
        assert_int_equal(info.ops[i].count, 1);
        assert_false(info.ops[i].runnable);
    }
    shr_model_info_finish(&info);
}

#define WITH_GRAPH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_GRAPH(uses_are_known_at_both_ends),
        WITH_GRAPH(taken_and_empty_names_are_refused),
        WITH_GRAPH(an_output_has_one_producer),
        WITH_GRAPH(set_input_moves_the_edge),
        WITH_GRAPH(resize_inputs_keeps_what_fits),
        WITH_GRAPH(node_can_be_put_before_another),
        WITH_GRAPH(removed_node_leaves_its_outputs),
        WITH_GRAPH(replace_uses_moves_consumers),
        WITH_GRAPH(replace_uses_hands_on_the_name_of_an_output),
        WITH_GRAPH(replace_uses_leaves_an_output_that_an_input_cannot_be),
        WITH_GRAPH(set_constant_changes_data_and_type),
        WITH_GRAPH(set_constant_reaches_the_constant_node),
        WITH_GRAPH(attributes_are_read_with_a_fallback),
        WITH_GRAPH(label_of_a_nameless_node_is_its_operator_and_output),
        WITH_GRAPH(sort_moves_nodes_behind_what_they_need),
        WITH_GRAPH(sort_counts_captures_as_needs),
        WITH_GRAPH(sort_names_a_node_of_a_cycle),
        WITH_GRAPH(sort_does_not_recurse_on_a_long_chain),
        WITH_GRAPH(drop_unused_keeps_what_outputs_and_captures_need),
        WITH_GRAPH(check_finds_broken_links),
        WITH_GRAPH(check_finds_broken_names),
        WITH_GRAPH(check_finds_values_without_a_source),
        WITH_GRAPH(check_finds_a_wrong_interface),
        WITH_GRAPH(check_finds_a_constant_of_another_type),
        WITH_GRAPH(clone_shares_weights_and_nothing_else),
        WITH_GRAPH(import_adds_or_raises),
        WITH_GRAPH(metadata_is_replaced_in_place),
        WITH_GRAPH(print_shows_one_node_a_line),
        WITH_GRAPH(describe_counts_operators_and_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
