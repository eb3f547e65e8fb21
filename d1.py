from h import *
# deadline falls in the loop's turn in which a stage begins its calls
late=[False]
def on_event(e):
    if type(e).__name__=="ItemsPassed" and not late[0]:
        late[0]=True; time.sleep(1.2)
async def slow(row):
    await asyncio.sleep(0.01); return {"a":1}
async def main():
    rows=[{"n":i} for i in range(3000)]
    r=await hr.arun(hr.Pipeline(hr.Filter("n >= 0"), hr.Map(slow, concurrency=2)), rows, store=st(), deadline=1.0, on_event=on_event)
    print("returned", r.status if hasattr(r,'status') else r)
t=time.time()
asyncio.run(main()); print(time.time()-t)
