from passes import Change, NameNodes
from tests.passes.sample_graphs import model_of


def test_nodes_are_named_after_module_and_operator_and_numbered_where_they_repeat() -> None:
    model = model_of("""g (float[S,2] x) => (float[S,2] y) {
      [layer__self__Abs] a = Abs(x)
      [layer__self__Abs] b = Abs(a)
      y = Neg(b)
    }""")
    result = NameNodes()(model)
    assert [node.name for node in model.graph] == ["layer.self/Abs", "layer.self/Abs_2", "Neg"]
    assert result.entries[0] == Change("node_Abs_0", "layer.self", "named layer.self/Abs")
