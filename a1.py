from h import *
rows=[{"n":i} for i in range(12)]
def badfold(v,row):
    if row["n"] in (4,): raise ValueError("x")
    return v+1
tryit("fold raises on the 5th of every=5", lambda: show(hr.run(hr.Reduce(fold=badfold,start=0,every=5), rows, store=st())))
def allbad(v,row): raise ValueError("x")
tryit("fold raises always", lambda: show(hr.run(hr.Reduce(fold=allbad,start=0), rows, store=st())))
tryit("fold raises always each", lambda: show(hr.run(hr.Reduce(fold=allbad,start=0,each=True), rows, store=st())))
tryit("fold raises always by", lambda: show(hr.run(hr.Reduce(fold=allbad,start=0,by="n"), rows, store=st())))
tryit("start set", lambda: show(hr.run(hr.Reduce(fold=lambda v,r:v|{r["n"]},start=set()), rows, store=st())))
tryit("fold to object", lambda: show(hr.run(hr.Reduce(fold=lambda v,r:object(),start=0), rows, store=st())))
tryit("top ties in expand", lambda: show(hr.run(hr.Pipeline(hr.Expand("x"),hr.Top(2,by="s")), [{"x":[{"s":1,"p":c} for c in "abcd"]}], store=st())))
tryit("top huge int", lambda: show(hr.run(hr.Top(2,by="n"), [{"n":1},{"n":10**400},{"n":3}], store=st())))
tryit("reduce by nan", lambda: show(hr.run(hr.Reduce(by="b"), [{"b":float(x)} for x in ("nan","nan","1")], store=st())))
tryit("reduce by nan keyed", lambda: show(hr.run(hr.Reduce(by="b"), [{"b":float(x),"k":i} for i,x in enumerate(("nan","nan","1"))], store=st(), key="k")))
tryit("reduce by set", lambda: show(hr.run(hr.Reduce(by="b"), [{"b":{1}},{"b":2}], store=st())))
tryit("reduce by tuple of list", lambda: show(hr.run(hr.Reduce(by="b"), [{"b":([1],)},{"b":2}], store=st())))
tryit("expand objects", lambda: show(hr.run(hr.Pipeline(hr.Expand("b"),lambda r:1), [{"b":[object()]},{"b":[2]}], store=st())))
tryit("expand intkeys", lambda: show(hr.run(hr.Pipeline(hr.Expand("b"),hr.Map(lambda r:1,name="q",version="1")), [{"b":[{1:2,"a":3}]},{"b":[2]}], store=st())))
tryit("missing col in first", lambda: show(hr.run(hr.Filter("label == null"), [{"t":1},{"t":2,"label":3}], store=st())))
def f(row): return {"a":1} if row["n"]%2==0 else {"a":1,"spam":True}
tryit("missing col in first after map", lambda: show(hr.run(hr.Pipeline(f,hr.Filter("not spam")), rows, store=st())))
tryit("distinct best or first", lambda: show(hr.run(hr.Top(2,by="s",distinct="a"), [{"a":"x","s":1},{"a":"x","s":9},{"a":"y","s":2}], store=st())))
tryit("class", lambda: show(hr.run(hr.Filter("class == 'a'"), [{"class":"a"}], store=st())))
