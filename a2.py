from h import *
posts=[{"text":"short"},{"text":"x"*60}]
def measured(row): return {"length":len(row["text"])}
def p1():
    p=hr.Pipeline(measured, hr.Ask("In one line: {text}", model="sim:", when="length > 40"))
    async def s():
        async for o in hr.stream(p, posts, store=st()): print("  stream", repr(o))
    asyncio.run(s())
    d=tempfile.mkdtemp(dir=".")
    r=hr.run(p, posts, store=st(), to=d+"/o.csv"); show(r)
    print(open(d+"/o.csv").read())
tryit("pass-by value restored", p1)
def p2():
    def g(row):
        if row["text"]=="short": raise ValueError("nope")
        return {"g":1}
    p=hr.Pipeline(measured, hr.Map(g, failure="why"))
    d=tempfile.mkdtemp(dir=".")
    r=hr.run(p, posts, store=st(), to=d+"/o.csv"); show(r)
    print(open(d+"/o.csv").read())
    p=hr.Pipeline(measured, hr.Map(g, failure="why"), hr.Filter("why != null"))
    r=hr.run(p, posts, store=st(), to=d+"/o.csv"); show(r)
    print(open(d+"/o.csv").read())
tryit("failure= in last stage", p2)
def gen(row):
    for c in row["text"][:3]: yield {"c":c}
tryit("expand generator", lambda: show(hr.run(hr.Expand(gen), posts, store=st())))
async def agen(row):
    for c in row["text"][:3]: yield {"c":c}
tryit("expand async generator", lambda: show(hr.run(hr.Expand(agen), posts, store=st())))
tryit("map generator", lambda: show(hr.run(hr.Map(gen), posts, store=st())))
tryit("map async gen", lambda: show(hr.run(hr.Map(agen), posts, store=st())))
async def aw(row): return False
tryit("when async", lambda: show(hr.run(hr.Ask("{text}",model="sim:",when=aw), posts, store=st())))
tryit("filter async", lambda: show(hr.run(hr.Filter(aw), posts, store=st())))
tryit("filter raises", lambda: show(hr.run(hr.Filter(lambda r: 1/0), posts, store=st())))
tryit("when raises", lambda: show(hr.run(hr.Ask("{text}",model="sim:",when=lambda r:1/0), posts, store=st())))
tryit("expand None", lambda: show(hr.run(hr.Expand(lambda r: None), posts, store=st())))
tryit("expand str", lambda: show(hr.run(hr.Expand(lambda r: "abc"), posts, store=st())))
tryit("expand col str", lambda: show(hr.run(hr.Expand("text"), posts, store=st())))
tryit("expand dict", lambda: show(hr.run(hr.Expand(lambda r: {"a":1}), posts, store=st())))
tryit("empty", lambda: show(hr.run(hr.Pipeline(hr.Expand(gen),hr.Reduce(len),hr.Top(1,by="result")), [], store=st())))
tryit("empty reduce fold", lambda: show(hr.run(hr.Reduce(fold=lambda a,b:a,start=0), [], store=st())))
tryit("reduce raises", lambda: show(hr.run(hr.Reduce(lambda rows: 1/0), posts, store=st())))
tryit("reduce gen", lambda: show(hr.run(hr.Reduce(lambda rows: (r for r in rows)), posts, store=st())))
tryit("reduce mutating", lambda: show(hr.run(hr.Reduce(lambda rows: rows.clear()), posts, store=st())))
tryit("fold mutating row", lambda: show(hr.run(hr.Reduce(fold=lambda v,r: r.clear(),start=None), posts, store=st())))
tryit("none items", lambda: show(hr.run(hr.Pipeline(lambda r: None, hr.Filter("result == null")), [None,None,1], store=st())))
def src():
    yield {"text":"a"}; yield {"text":"b"}; raise ValueError("src broke")
tryit("source raises", lambda: show(hr.run(hr.Pipeline(measured,hr.Top(1,by="length")), src(), store=st())))
async def asrc():
    for i in range(5): yield {"text":str(i)}
    raise asyncio.CancelledError()
tryit("asource cancelled", lambda: show(hr.run(measured, asrc(), store=st())))
async def asrc2():
    for i in range(5): yield {"text":str(i)}
    raise KeyError("q")
tryit("asource err", lambda: show(hr.run(measured, asrc2(), store=st())))
def sysex(row): raise SystemExit(3)
tryit("map SystemExit", lambda: show(hr.run(sysex, posts, store=st())))
def kbi(row): raise KeyboardInterrupt()
tryit("map KeyboardInterrupt", lambda: show(hr.run(kbi, posts, store=st())))
tryit("filter cond func SystemExit top", lambda: show(hr.run(hr.Top(1,by=sysex), posts, store=st())))
